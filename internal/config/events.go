package config

import (
	"net/url"
	"regexp"
	"strings"

	"passbook/internal/httpapi/feed"
)

// namingSettings are the settings for the names of this deployment's events.
type namingSettings struct{ eventSource, eventTypePrefix, eventSchemaURL *setting }

func (s *Settings) addNaming(add func(env, flag, fallback, shown, usage string) *setting) {
	s.eventSource = add("PASSBOOK_EVENT_SOURCE", "event-source", feed.DefaultNaming.Source, "",
		"CloudEvents source of the events, a URI reference that tells this deployment from others")
	s.eventTypePrefix = add("PASSBOOK_EVENT_TYPE_PREFIX", "event-type-prefix", "", "none",
		"reverse domain name that goes before the CloudEvents type of events, such as com.example.passbook")
	s.eventSchemaURL = add("PASSBOOK_EVENT_SCHEMA_URL", "event-schema-url", "", feed.DefaultNaming.SchemaPrefix+"<type>/<version>",
		"URL where readers find the server's /schemas, for the CloudEvents dataschema, such as https://bank.example/schemas")
}

var (
	reverseDomain = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+$`)
	// uriCharacters matches the characters that RFC 3986 allows.
	uriCharacters = regexp.MustCompile(`^[A-Za-z0-9._~:/?#@!$&'()*+,;=%\[\]-]+$`)
)

// loadNaming parses the settings for events, and calls wrong for each invalid one.
func (s *Settings) loadNaming(wrong func(one *setting, format string, args ...any)) feed.Naming {
	n := feed.Naming{Source: s.get(s.eventSource), TypePrefix: s.get(s.eventTypePrefix), SchemaPrefix: s.get(s.eventSchemaURL)}
	if _, err := url.Parse(n.Source); err != nil || !uriCharacters.MatchString(n.Source) {
		wrong(s.eventSource, "%q is not a URI reference, such as https://bank.example/passbook", n.Source)
	}
	if n.TypePrefix != "" {
		if n.TypePrefix = strings.TrimSuffix(n.TypePrefix, "."); !reverseDomain.MatchString(n.TypePrefix) {
			wrong(s.eventTypePrefix, "%q is not a reverse domain name, such as com.example.passbook", s.get(s.eventTypePrefix))
		}
		n.TypePrefix += "."
	}
	if n.SchemaPrefix != "" {
		u, err := url.Parse(n.SchemaPrefix)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || !uriCharacters.MatchString(n.SchemaPrefix) {
			wrong(s.eventSchemaURL, "%q is not a URL, such as https://bank.example/schemas", n.SchemaPrefix)
		}
		n.SchemaPrefix = strings.TrimRight(n.SchemaPrefix, "/") + "/"
	}
	return n
}
