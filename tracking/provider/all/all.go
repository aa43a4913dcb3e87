// Package all lists the providers that mailtally knows.
package all

import (
	"github.com/mailtally/mailtally/tracking/provider"
	"github.com/mailtally/mailtally/tracking/provider/postmark"
	"github.com/mailtally/mailtally/tracking/provider/resend"
)

// Providers lists them.
func Providers() []provider.Provider {
	return []provider.Provider{
		resend.Provider{},
		postmark.Provider{},
	}
}
