package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"passbook/internal/auth"
)

// Kinds of authentication.
const (
	AuthNone = "none"
	AuthKeys = "keys"
	AuthOIDC = "oidc"
)

// Access holds the settings for authentication, addresses, rate limits and TLS.
type Access struct {
	// Auth is a kind of authentication; Issuer and Audience are for AuthOIDC.
	Auth, Issuer, Audience string
	// Hosts are the names, besides loopback ones, that requests may be addressed to without authentication.
	Hosts []string
	// CORSOrigins are the origins whose pages may use the API.
	CORSOrigins []string
	// BasePath is where a proxy mounts the service; empty at the root.
	BasePath string
	// ScopeClaim is the claim with a token's scopes, "" for scope and scp; ScopesOf maps its values to scopes.
	ScopeClaim string
	ScopesOf   map[string]auth.Scopes
	// RateLimit is in requests per second and caller; 0 means no limit.
	RateLimit float64
	// MaxStreams limits the streams of events, and the POST /commands, that are open concurrently.
	MaxStreams int
	// MaxStreamsPerCaller is how many of each one caller may have; 0 is a quarter.
	MaxStreamsPerCaller int
	// TLSCert and TLSKey are files; empty without TLS.
	TLSCert, TLSKey string
	// Key is the credential that commands send to a server.
	Key string
}

// accessSettings are the settings from which loadAccess makes an Access.
type accessSettings struct {
	auth, insecure, oidcIssuer, oidcAudience *setting
	hosts, basePath, corsOrigins             *setting
	oidcScopeClaim, oidcScopes               *setting
	rateLimit, maxStreams, tlsCert, tlsKey   *setting
	maxStreamsPerCaller                      *setting
	key, keyFile                             *setting
}

func (s *Settings) addAccess(add func(env, flag, fallback, shown, usage string) *setting) {
	s.auth = add("PASSBOOK_AUTH", "auth", AuthNone, "", "how callers authenticate: none (for loopback only), keys (see server keys) or oidc")
	s.insecure = add("PASSBOOK_INSECURE", "insecure", "false", "", "allow an address beyond loopback without authentication")
	s.hosts = add("PASSBOOK_HOSTS", "hosts", "", "loopback names only",
		"names or addresses, separated by commas, accepted as Host without authentication, besides loopback ones")
	s.corsOrigins = add("PASSBOOK_CORS_ORIGINS", "cors-origins", "", "none",
		"origins, separated by commas, whose pages may use the API from a browser, such as https://app.example")
	s.basePath = add("PASSBOOK_BASE_PATH", "base-path", "/", "", "where a proxy mounts the service, such as /bank; the proxy may strip it or not")
	s.oidcIssuer = add("PASSBOOK_OIDC_ISSUER", "oidc-issuer", "", "none", "URL of the OpenID Connect issuer whose tokens are accepted, for oidc")
	s.oidcAudience = add("PASSBOOK_OIDC_AUDIENCE", "oidc-audience", "", "none", "audience that tokens must have, for oidc")
	s.oidcScopeClaim = add("PASSBOOK_OIDC_SCOPE_CLAIM", "oidc-scope-claim", "", "scope and scp",
		"claim that has a token's scopes, such as permissions or realm_access.roles, for oidc")
	s.oidcScopes = add("PASSBOOK_OIDC_SCOPES", "oidc-scopes", "", "the values are scopes",
		"scopes that values of the claim grant, such as teller=accounts:write,teller=accounts:read, for oidc")
	s.rateLimit = add("PASSBOOK_RATE_LIMIT", "rate-limit", "0", "", "requests a second that a caller may send, by key, token or address; 0 is no limit")
	s.maxStreams = add("PASSBOOK_MAX_STREAMS", "max-streams", "256", "", "how many streams of events, and how many POST /commands, may be open concurrently")
	s.maxStreamsPerCaller = add("PASSBOOK_MAX_STREAMS_PER_CALLER", "max-streams-per-caller", "", "a quarter of PASSBOOK_MAX_STREAMS",
		"how many of each one caller may have open, by key, token or address")
	s.tlsCert = add("PASSBOOK_TLS_CERT", "tls-cert", "", "no TLS", "file of the certificate and its chain, PEM; read again when it changes")
	s.tlsKey = add("PASSBOOK_TLS_KEY", "tls-key", "", "no TLS", "file of the certificate's private key, PEM; read again when it changes")
	s.key = add("PASSBOOK_KEY", "key", "", "none", "key or token that commands send to a running server")
	s.keyFile = add("PASSBOOK_KEY_FILE", "key-file", "", "none", "file to read PASSBOOK_KEY from")
}

// loadAccess parses the settings for access, and calls wrong for each invalid one.
func (s *Settings) loadAccess(wrong func(one *setting, format string, args ...any)) Access {
	a := Access{
		Auth: s.get(s.auth), Issuer: s.get(s.oidcIssuer), Audience: s.get(s.oidcAudience),
		Key: s.secret(s.key, s.keyFile, wrong),
	}
	switch a.Auth {
	case AuthNone, AuthKeys:
		for _, one := range []*setting{s.oidcIssuer, s.oidcAudience, s.oidcScopeClaim, s.oidcScopes} {
			if s.get(one) != "" {
				wrong(one, "is for PASSBOOK_AUTH=oidc only, not for %s", a.Auth)
			}
		}
	case AuthOIDC:
		if u, err := url.Parse(a.Issuer); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			wrong(s.oidcIssuer, "%q is not a URL such as https://login.example.com/realms/bank, which PASSBOOK_AUTH=oidc needs", a.Issuer)
		}
		if a.Audience == "" {
			wrong(s.oidcAudience, "PASSBOOK_AUTH=oidc needs it: an audience (aud) that tokens for this service have")
		}
		a.ScopeClaim = s.get(s.oidcScopeClaim)
		a.ScopesOf = parseScopesOf(s.get(s.oidcScopes), func(pair string) {
			wrong(s.oidcScopes, "%q is not a value and a scope, such as teller=accounts:write; scopes are %s", pair, strings.Join(auth.ScopeNames(), ", "))
		})
	default:
		wrong(s.auth, "%q is not a kind of authentication; use none, keys or oidc", a.Auth)
	}
	a.Hosts = s.loadHosts(wrong)
	a.CORSOrigins = s.loadOrigins(wrong)
	if a.BasePath = strings.TrimSuffix(s.get(s.basePath), "/"); a.BasePath != "" && !mountPath.MatchString(a.BasePath) {
		wrong(s.basePath, "%q is not a path such as /bank", s.get(s.basePath))
	}
	s.loadLimits(&a, wrong)
	return a
}

// mountPath matches a path of plain segments.
var mountPath = regexp.MustCompile(`^(/[0-9A-Za-z_~-][0-9A-Za-z._~-]*)+$`)

// hostName matches a host name or an IPv4 address, as in a Host header.
var hostName = regexp.MustCompile(`^[0-9A-Za-z_]([0-9A-Za-z_.-]*[0-9A-Za-z_])?$`)

func (s *Settings) loadHosts(wrong func(one *setting, format string, args ...any)) []string {
	var hosts []string
	for host := range strings.SplitSeq(s.get(s.hosts), ",") {
		host = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(host), "["), "]")
		switch {
		case host == "":
		case hostName.MatchString(host) || net.ParseIP(host) != nil:
			hosts = append(hosts, host)
		default:
			wrong(s.hosts, "%q is not a host name or an address, such as bank.example.com, without scheme and port", host)
		}
	}
	return hosts
}

// loadOrigins parses origins as browsers write them: in lower case, without a path, and without the scheme's default port.
func (s *Settings) loadOrigins(wrong func(one *setting, format string, args ...any)) []string {
	var origins []string
	defaultPort := map[string]string{"http": "80", "https": "443"}
	for text := range strings.SplitSeq(s.get(s.corsOrigins), ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		u, err := url.Parse(text)
		if err != nil || defaultPort[u.Scheme] == "" || u.Hostname() == "" || defaultPort[u.Scheme] == u.Port() || strings.Contains(text, "*") ||
			text != u.Scheme+"://"+strings.ToLower(u.Host) {
			wrong(s.corsOrigins, "%q is not an origin as browsers send it, such as https://app.example or http://localhost:3000", text)
			continue
		}
		origins = append(origins, text)
	}
	return origins
}

// parseScopesOf parses pairs value=scope, separated by commas, and calls wrong with each that is malformed. It returns nil
// for an empty text.
func parseScopesOf(text string, wrong func(pair string)) map[string]auth.Scopes {
	if text == "" {
		return nil
	}
	all := make(map[string]auth.Scopes)
	for pair := range strings.SplitSeq(text, ",") {
		value, name, _ := strings.Cut(strings.TrimSpace(pair), "=")
		scope, ok := auth.ParseScope(name)
		if !ok || value == "" {
			wrong(pair)
			continue
		}
		all[value] |= scope
	}
	return all
}

func (s *Settings) loadLimits(a *Access, wrong func(one *setting, format string, args ...any)) {
	var err error
	const most = 1e9
	if a.RateLimit, err = strconv.ParseFloat(s.get(s.rateLimit), 64); err != nil || !(a.RateLimit >= 0 && a.RateLimit <= most) {
		wrong(s.rateLimit, "%q is not a number of requests a second, such as 100 or 0.5, or 0", s.get(s.rateLimit))
	}
	if a.MaxStreams, err = strconv.Atoi(s.get(s.maxStreams)); err != nil || a.MaxStreams < 1 {
		wrong(s.maxStreams, "%q is not a number of at least 1", s.get(s.maxStreams))
	}
	if text := s.get(s.maxStreamsPerCaller); text != "" {
		if a.MaxStreamsPerCaller, err = strconv.Atoi(text); err != nil || a.MaxStreamsPerCaller < 1 {
			wrong(s.maxStreamsPerCaller, "%q is not a number of at least 1", text)
		}
	}
	for _, file := range []struct {
		one  *setting
		path *string
	}{{s.tlsCert, &a.TLSCert}, {s.tlsKey, &a.TLSKey}} {
		if path := s.get(file.one); path != "" {
			if *file.path, err = filepath.Abs(path); err != nil {
				wrong(file.one, "%v", err)
			}
		}
	}
	switch {
	case a.TLSCert != "" && a.TLSKey == "":
		wrong(s.tlsKey, "is needed too with PASSBOOK_TLS_CERT")
	case a.TLSCert == "" && a.TLSKey != "":
		wrong(s.tlsCert, "is needed too with PASSBOOK_TLS_KEY")
	}
}

// maxSecret is the maximum size of a file with a secret, in bytes.
const maxSecret = 64 << 10

// secret returns a setting's value, or the trimmed text of the file that the other setting names.
func (s *Settings) secret(one, file *setting, wrong func(one *setting, format string, args ...any)) string {
	value, path := s.get(one), s.get(file)
	if path == "" {
		return value
	}
	if value != "" {
		wrong(file, "%s is set as well; set one of them", one.env)
		return ""
	}
	text, err := os.ReadFile(path)
	if err != nil {
		wrong(file, "%v", err)
		return ""
	}
	value = strings.TrimSpace(string(text))
	if value == "" || len(value) > maxSecret {
		wrong(file, "%s is empty, or too large", path)
	}
	return value
}

// checkAddress refuses an address that other machines can reach without authentication.
func (s *Settings) checkAddress(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not of the form host:port", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q is not a port; give a number up to 65535, or 0 for any free port", port)
	} else if n == 0 && host == "" {
		return errors.New("port 0 needs a host, such as 127.0.0.1:0")
	}
	insecure, err := strconv.ParseBool(s.get(s.insecure))
	if err != nil {
		return fmt.Errorf("%s (--%s): %q is neither true nor false", s.insecure.env, s.insecure.flag, s.get(s.insecure))
	}
	ip := net.ParseIP(host)
	if insecure || s.get(s.auth) != AuthNone || host == "localhost" || (ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("%q can be reached from other machines, and there is no authentication: set PASSBOOK_AUTH=keys and "+
		"make a key with server keys create, or PASSBOOK_AUTH=oidc with PASSBOOK_OIDC_ISSUER and PASSBOOK_OIDC_AUDIENCE; "+
		"or listen on 127.0.0.1; or confirm with PASSBOOK_INSECURE=true (--insecure)", addr)
}
