package config

import (
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// Stream is the settings about the log in a JetStream stream.
type Stream struct {
	// RelayURL is where the relay publishes the log; empty without a relay.
	RelayURL string
	// FollowURL is where a follower reads its log; empty unless it is one. It is not a setting, but the argument of server follow.
	FollowURL string
	// StreamName is the stream's, and Replicas how many nodes store it if the relay creates it.
	StreamName string
	Replicas   int
	// NATSCredentials, NATSCA, NATSCert and NATSKey are files; empty when NATS does not ask for them.
	NATSCredentials, NATSCA, NATSCert, NATSKey string
	// PrimaryURL is where a follower tells callers to send commands; it may be empty.
	PrimaryURL string
}

// streamSettings are the settings that Stream is made from.
type streamSettings struct {
	relayURL, relayStream, relayReplicas       *setting
	natsCredentials, natsCA, natsCert, natsKey *setting
	primaryURL                                 *setting
}

func (s *Settings) addStream(add func(env, flag, fallback, shown, usage string) *setting) {
	s.relayURL = add("PASSBOOK_RELAY_NATS_URL", "relay-nats-url", "", "no relay",
		"NATS servers to publish the log to, separated by commas, such as nats://a:4222,nats://b:4222")
	s.relayStream = add("PASSBOOK_RELAY_STREAM", "relay-stream", "PASSBOOK", "", "JetStream stream that has the log, for the relay and for followers")
	s.relayReplicas = add("PASSBOOK_RELAY_REPLICAS", "relay-replicas", "3", "", "how many NATS servers store the stream, when the relay creates it")
	s.natsCredentials = add("PASSBOOK_NATS_CREDS", "nats-creds", "", "none", "file with the credentials for NATS")
	s.natsCA = add("PASSBOOK_NATS_CA", "nats-ca", "", "the system's", "file of the certificates that the NATS servers' are checked against, PEM")
	s.natsCert = add("PASSBOOK_NATS_CERT", "nats-cert", "", "none", "file of the client's certificate for NATS, PEM")
	s.natsKey = add("PASSBOOK_NATS_KEY", "nats-key", "", "none", "file of that certificate's private key, PEM")
	s.primaryURL = add("PASSBOOK_PRIMARY_URL", "primary-url", "", "none", "URL of the primary, which a follower names to those who send it commands")
}

// streamName matches the names that NATS allows in every place.
var streamName = regexp.MustCompile(`^[0-9A-Za-z_-]{1,64}$`)

// IsNATS reports whether a text is one or several URLs of NATS servers, separated by commas.
func IsNATS(text string) bool {
	for one := range strings.SplitSeq(text, ",") {
		u, err := url.Parse(one)
		if err != nil || u.Host == "" || (u.Scheme != "nats" && u.Scheme != "tls" && u.Scheme != "ws" && u.Scheme != "wss") {
			return false
		}
	}
	return true
}

// loadStream parses the settings about the stream, and calls wrong for each that is invalid.
func (s *Settings) loadStream(wrong func(one *setting, format string, args ...any)) Stream {
	c := Stream{
		RelayURL: s.get(s.relayURL), StreamName: s.get(s.relayStream), PrimaryURL: s.get(s.primaryURL),
		NATSCredentials: s.get(s.natsCredentials), NATSCA: s.get(s.natsCA), NATSCert: s.get(s.natsCert), NATSKey: s.get(s.natsKey),
	}
	if c.RelayURL != "" && !IsNATS(c.RelayURL) { // not shown: it may have a password
		wrong(s.relayURL, "is not a URL of NATS servers, such as nats://127.0.0.1:4222")
	}
	if !streamName.MatchString(c.StreamName) {
		wrong(s.relayStream, "%q is not a name of at most 64 letters, digits, - and _", c.StreamName)
	}
	var err error
	if c.Replicas, err = strconv.Atoi(s.get(s.relayReplicas)); err != nil || c.Replicas < 1 || c.Replicas > 5 {
		wrong(s.relayReplicas, "%q is not a number from 1 to 5", s.get(s.relayReplicas))
	}
	for _, file := range []*setting{s.natsCredentials, s.natsCA, s.natsCert, s.natsKey} {
		if path := s.get(file); path != "" {
			if _, err := os.Stat(path); err != nil {
				wrong(file, "%v", err)
			}
		}
	}
	if (c.NATSCert == "") != (c.NATSKey == "") {
		wrong(s.natsCert, "PASSBOOK_NATS_CERT and PASSBOOK_NATS_KEY go together")
	}
	if u, err := url.Parse(c.PrimaryURL); c.PrimaryURL != "" && (err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil) {
		wrong(s.primaryURL, "%q is not a URL, such as https://bank.example", c.PrimaryURL)
	}
	c.PrimaryURL = strings.TrimRight(c.PrimaryURL, "/")
	return c
}
