package main

import (
	"strings"

	"github.com/mailtally/mailtally/tracking/provider"
	"github.com/mailtally/mailtally/tracking/provider/postmark"
	"github.com/mailtally/mailtally/tracking/provider/resend"
)

// configureProviders makes an endpoint for each provider whose variable is set. A new
// provider needs its fields in config and a line here. It returns all the variables
// that there are, and whether any of them is set.
func (c *config) configureProviders(problem func(variable, format string, args ...any)) (variables []string, anySet bool) {
	configure := func(variable string, value *string, file string, open func(string) (provider.Endpoint, error)) {
		variables = append(variables, variable)
		fromFile(value, variable, file, problem)
		if *value == "" {
			anySet = anySet || file != ""
			return
		}
		anySet = true
		endpoint, err := open(*value)
		if err != nil {
			for _, line := range strings.Split(err.Error(), "\n") { // one for each entry of the list
				problem(variable, "%s", line)
			}
			return
		}
		c.endpoints = append(c.endpoints, endpoint)
	}
	configure("RESEND_WEBHOOK_SECRETS", &c.ResendWebhookSecrets, c.ResendWebhookSecretsFile, resend.New)
	configure("POSTMARK_WEBHOOK_CREDENTIALS", &c.PostmarkWebhookCredentials, c.PostmarkWebhookCredentialsFile, postmark.New)
	return variables, anySet
}
