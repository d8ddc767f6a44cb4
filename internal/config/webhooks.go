package config

import "strconv"

// webhookSettings are the settings about where webhooks may lead.
type webhookSettings struct{ webhooksAllowPrivate *setting }

func (s *Settings) addWebhooks(add func(env, flag, fallback, shown, usage string) *setting) {
	s.webhooksAllowPrivate = add("PASSBOOK_WEBHOOKS_ALLOW_PRIVATE", "webhooks-allow-private", "false", "",
		"allow webhooks over http, and to private, loopback and link-local addresses")
}

func (s *Settings) loadWebhooks(wrong func(one *setting, format string, args ...any)) bool {
	allow, err := strconv.ParseBool(s.get(s.webhooksAllowPrivate))
	if err != nil {
		wrong(s.webhooksAllowPrivate, "%q is neither true nor false", s.get(s.webhooksAllowPrivate))
	}
	return allow
}
