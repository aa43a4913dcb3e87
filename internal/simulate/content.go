package simulate

import "math/rand/v2"

// campaign is what the emails of one newsletter, or of one kind of
// transactional mail, have in common.
type campaign struct {
	broadcastID string // empty for transactional mail
	templateID  string // empty where none was used
	from        string
	subject     string
	category    string // the value of a tag; empty for no tags
	links       []string
}

// newCampaigns gives the campaigns of one generator: their texts are fixed,
// their ids are drawn.
func newCampaigns(rng *rand.Rand) []campaign {
	const news = "Acme Weekly <news@example.com>"
	const shop = "Acme <onboarding@example.com>"
	links := []string{
		"https://example.com/",
		"https://example.com/articles/2026/how-we-count?utm_source=newsletter&utm_medium=email&utm_campaign=weekly",
		"https://shop.example.com/products/42?ref=mail&color=%23ff8800&size=M%2FL",
		"https://example.com/pricing?plan=team&billing=yearly#faq",
		"https://example.com/unsubscribe?token=Yw3v9b2kq0&list=weekly",
		"https://docs.example.com/search?q=first+open&lang=de",
		"https://example.com/événement?ville=Zürich&prix=10€",
		`https://example.com/t?x={"a":"b\c"}`,
	}
	all := []campaign{
		{from: news, subject: "This week: counting what can be counted", category: "weekly", links: links},
		{from: news, subject: `The "exactly once" issue, and C:\temp`, category: "weekly", links: links[1:]},
		{from: news, subject: "Neuigkeiten für Käthe & Jürgen <3", category: "weekly_de", links: links[2:]},
		{from: news, subject: "🎉 Ten years of Acme\u2028thank you", category: "anniversary", links: links},
		{from: "Acme Offers <offers@example.com>", subject: "50 % off, today only", category: "offer", links: links[1:6]},
		{from: "株式会社アクメ <news@example.com>", subject: "今週のニュース", links: links[3:]},
		{from: shop, subject: "Confirm your email address", category: "confirm_email", links: links[:4]},
		{from: shop, subject: "Your receipt\t#2026-11", links: links[:4]},
	}
	for i := range all {
		if all[i].from != shop {
			all[i].broadcastID = newUUID(rng)
		}
		if i%3 != 1 {
			all[i].templateID = newUUID(rng)
		}
	}
	return all
}

func userAgentOf(n uint64) string {
	switch n % 9 {
	case 0:
		return "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15"
	case 1:
		return "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
	case 2:
		return "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1"
	case 3:
		return "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36"
	case 4:
		return "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
	case 5:
		return "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
	case 6:
		return "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0"
	case 7:
		return "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"
	default:
		return "Mozilla/5.0"
	}
}

func firstName(n uint64) string {
	switch n % 8 {
	case 0:
		return "ada"
	case 1:
		return "edsger"
	case 2:
		return "grace"
	case 3:
		return "donald"
	case 4:
		return "barbara"
	case 5:
		return "leslie"
	case 6:
		return "tony"
	default:
		return "frances"
	}
}

func bounceMessage(n uint64) (message, subType, kind, diagnostic string) {
	switch n % 4 {
	case 0:
		return "The recipient's email address is on the suppression list because it has a recent history of producing hard bounces.",
			"Suppressed", "Permanent", ""
	case 1:
		return "The recipient's email provider sent a hard bounce message.",
			"General", "Permanent", "smtp; 550 5.1.1 <unknown@example.com>: Recipient address rejected"
	case 2:
		return "The recipient's mailbox is full.",
			"MailboxFull", "Transient", "smtp; 552 5.2.2 mailbox full"
	default: // a type and subtype that nobody has documented: the sets are open
		return "The recipient's email provider sent a bounce message.",
			"Greylisted", "Undetermined", `smtp; 451 "try again later"`
	}
}

func failedReason(n uint64) string {
	switch n % 3 {
	case 0:
		return "reached_daily_quota"
	case 1:
		return "domain_not_verified"
	default:
		return "invalid_attachment"
	}
}
