package config

import (
	"strconv"
	"time"
)

// Audit holds the settings of the access audit.
type Audit struct {
	// AccessRate is the share of the reads that are recorded: 0 is none, 1 is all.
	AccessRate float64
	// AccessRetention is how long their records are kept.
	AccessRetention time.Duration
}

// auditSettings are the settings from which loadAudit makes an Audit.
type auditSettings struct{ accessAudit, accessRetention *setting }

func (s *Settings) addAudit(add func(env, flag, fallback, shown, usage string) *setting) {
	s.accessAudit = add("PASSBOOK_ACCESS_AUDIT", "access-audit", "off", "",
		"which reads are recorded, with who read what of whom: off, all, or a share of them such as 0.1")
	s.accessRetention = add("PASSBOOK_ACCESS_RETENTION", "access-retention", "2160h", "2160h, which is 90 days",
		"how long the records of reads are kept, at least 24h")
}

func (s *Settings) loadAudit(wrong func(one *setting, format string, args ...any)) (a Audit) {
	switch text := s.get(s.accessAudit); text {
	case "off":
	case "all":
		a.AccessRate = 1
	default:
		rate, err := strconv.ParseFloat(text, 64)
		if err != nil || !(rate >= 0 && rate <= 1) {
			wrong(s.accessAudit, "%q is not off, all, or a share of the reads between 0 and 1, such as 0.1", text)
		}
		a.AccessRate = rate
	}
	var err error
	const least = 24 * time.Hour
	if a.AccessRetention, err = time.ParseDuration(s.get(s.accessRetention)); err != nil || a.AccessRetention < least {
		wrong(s.accessRetention, "%q is not a duration of at least 24h, such as 2160h", s.get(s.accessRetention))
	}
	return a
}
