// Package config parses and checks the settings of the binary, environment variables and flags, and reports all invalid ones
// together.
package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"passbook/internal/httpapi/feed"
)

// Config holds the settings, parsed and checked.
type Config struct {
	// Version is the binary's version.
	Version string
	// DatabaseURL is empty if the service runs a private PostgreSQL in DataDir.
	DatabaseURL      string
	QueryDatabaseURL string
	// DirectDatabaseURL bypasses a connection pooler; it equals DatabaseURL unless set.
	DirectDatabaseURL string
	DataDir           string
	PGBin             string
	RuntimeDir        string
	Addr              string
	IdempotencyTTL    time.Duration
	// PartitionSize is how many positions a new partition of the log has.
	PartitionSize int64
	// TracesURL is where traces are sent; empty if tracing is off.
	TracesURL       string
	ShutdownDelay   time.Duration
	ShutdownTimeout time.Duration
	Log             *slog.Logger
	Access
	Naming feed.Naming
	// WebhooksAllowPrivate allows webhooks to addresses that are not public.
	WebhooksAllowPrivate bool
	Stream
	Signing
	Subjects
	Audit
}

// UsageError is a mistake on the command line or in a setting.
type UsageError struct{ error }

func (e UsageError) Unwrap() error { return e.error }

// Usage returns the error as a UsageError.
func Usage(err error) error { return UsageError{err} }

// setting is one environment variable and its flag.
type setting struct {
	env, flag, usage string
	// fallback is the default; shown, if set, is how --help describes it.
	fallback, shown string
	value           *string
}

// Settings are all settings: their names, flags and defaults. Load parses them once.
type Settings struct {
	version string
	environ map[string]string
	flags   *pflag.FlagSet
	all     []*setting

	databaseURL, queryDatabaseURL, dataDir, pgBin *setting
	databaseURLFile, queryDatabaseURLFile         *setting
	directDatabaseURL, directDatabaseURLFile      *setting
	addr, logLevel, logFormat                     *setting
	idempotencyTTL, partitionSize                 *setting
	shutdownDelay, shutdownTimeout, otlpEndpoint  *setting
	accessSettings
	namingSettings
	webhookSettings
	streamSettings
	signingSettings
	subjectSettings
	auditSettings
}

// New returns the settings of a binary of that version. They come from environ, as NAME=value, and from the flags
// once Register has added those.
func New(environ []string, version string) *Settings {
	s := &Settings{version: version, environ: make(map[string]string)}
	for _, one := range environ {
		name, value, _ := strings.Cut(one, "=")
		s.environ[name] = value
	}
	add := func(env, flag, fallback, shown, usage string) *setting {
		one := &setting{env: env, flag: flag, fallback: fallback, shown: shown, usage: usage}
		s.all = append(s.all, one)
		return one
	}
	s.databaseURL = add("DATABASE_URL", "database-url", "", "a private PostgreSQL in the data directory",
		"PostgreSQL to use, as a URL or as keyword=value pairs")
	s.queryDatabaseURL = add("PASSBOOK_QUERY_DATABASE_URL", "query-database-url", "", "the same as DATABASE_URL",
		"read replica that queries go to")
	s.directDatabaseURL = add("PASSBOOK_DIRECT_DATABASE_URL", "direct-database-url", "", "the same as DATABASE_URL",
		"URL that bypasses a connection pooler such as PgBouncer, for migrations and notifications")
	s.databaseURLFile = add("DATABASE_URL_FILE", "database-url-file", "", "none", "file to read DATABASE_URL from")
	s.queryDatabaseURLFile = add("PASSBOOK_QUERY_DATABASE_URL_FILE", "query-database-url-file", "", "none",
		"file to read PASSBOOK_QUERY_DATABASE_URL from")
	s.directDatabaseURLFile = add("PASSBOOK_DIRECT_DATABASE_URL_FILE", "direct-database-url-file", "", "none",
		"file to read PASSBOOK_DIRECT_DATABASE_URL from")
	s.dataDir = add("PASSBOOK_DATA_DIR", "data-dir", "", "the user's data directory",
		"directory of the private PostgreSQL")
	s.pgBin = add("PG_BIN", "pg-bin", "", "the usual places, then PATH", "directory of the programs initdb and postgres")
	s.addr = add("PASSBOOK_ADDR", "addr", "127.0.0.1:8080", "", "address and port to listen on")
	s.addAccess(add)
	s.addNaming(add)
	s.addWebhooks(add)
	s.addStream(add)
	s.addSigning(add)
	s.addSubjects(add)
	s.addAudit(add)
	s.idempotencyTTL = add("PASSBOOK_IDEMPOTENCY_TTL", "idempotency-ttl", "24h", "", "how long an Idempotency-Key is kept, such as 90m or 48h")
	s.partitionSize = add("PASSBOOK_PARTITION_SIZE", "partition-size", "10000000", "", "how many positions each new partition of the log has")
	s.shutdownDelay = add("PASSBOOK_SHUTDOWN_DELAY", "shutdown-delay", "0s", "",
		"how long to keep serving after a signal to stop, without being ready, so that load balancers notice")
	s.shutdownTimeout = add("PASSBOOK_SHUTDOWN_TIMEOUT", "shutdown-timeout", "15s", "", "how long requests in flight may then take")
	s.otlpEndpoint = add("OTEL_EXPORTER_OTLP_ENDPOINT", "otlp-endpoint", "", "tracing is off",
		"OpenTelemetry collector to send traces to, over HTTP, such as http://127.0.0.1:4318")
	s.logLevel = add("PASSBOOK_LOG_LEVEL", "log-level", "info", "", "debug, info, warn or error")
	s.logFormat = add("PASSBOOK_LOG_FORMAT", "log-format", "", "text on a terminal, otherwise json", "text or json")
	return s
}

// Getenv returns an environment variable that is not a setting.
func (s *Settings) Getenv(name string) string { return s.environ[name] }

// Register adds the flags. The usage text states their defaults, because the environment comes between flag and default.
func (s *Settings) Register(flags *pflag.FlagSet) {
	s.flags = flags
	for _, one := range s.all {
		shown := one.shown
		if shown == "" {
			shown = one.fallback
		}
		usage := fmt.Sprintf("%s (%s; default: %s)", one.usage, one.env, shown)
		one.value = flags.String(one.flag, "", usage)
	}
	flags.Lookup(s.insecure.flag).NoOptDefVal = "true"
	flags.Lookup(s.webhooksAllowPrivate.flag).NoOptDefVal = "true"
}

// Completions returns the values of the flags that accept only a few.
func (s *Settings) Completions() map[string][]string {
	return map[string][]string{
		s.auth.flag:      {AuthNone, AuthKeys, AuthOIDC},
		s.logLevel.flag:  {"debug", "info", "warn", "error"},
		s.logFormat.flag: {"text", "json"},
	}
}

// ClientFlags returns the flags that commands read which ask a running server.
func (s *Settings) ClientFlags() []string { return flagsOf(s.addr, s.tlsCert, s.key, s.keyFile) }

// DatabaseFlags returns the flags that commands read which work on the database itself.
func (s *Settings) DatabaseFlags() []string {
	return flagsOf(s.databaseURL, s.databaseURLFile, s.directDatabaseURL, s.directDatabaseURLFile, s.dataDir, s.pgBin, s.signingKeyFile, s.masterKeyFile,
		s.keysDatabaseURL, s.keysDatabaseURLFile, s.logLevel, s.logFormat)
}

// KeysFlags returns the flags of commands that work on the database of the subjects' keys.
func (s *Settings) KeysFlags() []string {
	return flagsOf(s.masterKeyFile, s.keysDatabaseURL, s.keysDatabaseURLFile, s.logLevel, s.logFormat)
}

// DemoFlags returns the flags that server demo reads, which takes nothing from the settings of a server but where to find PostgreSQL; its
// playground is served, too.
func (s *Settings) DemoFlags() []string {
	return flagsOf(s.dataDir, s.pgBin, s.addr, s.logLevel, s.logFormat)
}

// RelayFlags returns the flags that server relay reads.
func (s *Settings) RelayFlags() []string {
	return append(s.DatabaseFlags(), flagsOf(s.addr, s.auth, s.insecure, s.eventSource, s.eventTypePrefix, s.eventSchemaURL, s.relayURL, s.relayStream,
		s.relayReplicas, s.natsCredentials, s.natsCA, s.natsCert, s.natsKey)...)
}

func flagsOf(settings ...*setting) []string {
	flags := make([]string, len(settings))
	for i, one := range settings {
		flags[i] = one.flag
	}
	return flags
}

// get returns the flag's value if it was given, else the environment's, else the default.
func (s *Settings) get(one *setting) string {
	if s.flags.Changed(one.flag) {
		return *one.value
	}
	if v := s.Getenv(one.env); v != "" {
		return v
	}
	return one.fallback
}

// Load parses all settings. It reports all invalid ones together, as a UsageError.
func (s *Settings) Load(stderr io.Writer) (Config, error) {
	problems := s.unknown()
	wrong := func(one *setting, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s (--%s): %s", one.env, one.flag, fmt.Sprintf(format, args...)))
	}
	c := Config{
		Version:           s.version,
		DatabaseURL:       s.secret(s.databaseURL, s.databaseURLFile, wrong),
		QueryDatabaseURL:  s.secret(s.queryDatabaseURL, s.queryDatabaseURLFile, wrong),
		DirectDatabaseURL: s.secret(s.directDatabaseURL, s.directDatabaseURLFile, wrong),
		PGBin:             s.get(s.pgBin), RuntimeDir: s.Getenv("XDG_RUNTIME_DIR"), Addr: s.get(s.addr),
	}
	for _, u := range []struct {
		one   *setting
		value string
	}{{s.databaseURL, c.DatabaseURL}, {s.queryDatabaseURL, c.QueryDatabaseURL}, {s.directDatabaseURL, c.DirectDatabaseURL}} {
		if strings.TrimSpace(u.value) != u.value { // pgx would not recognise a URL after a blank, and use the local socket
			wrong(u.one, "has blanks around it")
		} else if _, err := pgxpool.ParseConfig(u.value); u.value != "" && err != nil {
			// The error of pgx does not contain the password.
			wrong(u.one, "not a PostgreSQL connection string: %v", err)
		}
	}
	if c.QueryDatabaseURL != "" && c.DatabaseURL == "" {
		wrong(s.queryDatabaseURL, "a replica needs DATABASE_URL too; the private PostgreSQL has none")
	}
	if c.DirectDatabaseURL != "" && c.DatabaseURL == "" {
		wrong(s.directDatabaseURL, "is for a DATABASE_URL that leads through a pooler, and there is none")
	}
	var err error
	if c.DataDir, err = s.dataDirectory(); err != nil {
		wrong(s.dataDir, "%v", err)
	}
	if err := s.checkAddress(c.Addr); err != nil {
		wrong(s.addr, "%v", err)
	}
	c.Access, c.Naming, c.WebhooksAllowPrivate, c.Stream = s.loadAccess(wrong), s.loadNaming(wrong), s.loadWebhooks(wrong), s.loadStream(wrong)
	c.Signing, c.Subjects, c.Audit = s.loadSigning(wrong), s.loadSubjects(wrong), s.loadAudit(wrong)
	if c.IdempotencyTTL, err = time.ParseDuration(s.get(s.idempotencyTTL)); err != nil || c.IdempotencyTTL < time.Minute {
		wrong(s.idempotencyTTL, "%q is not a duration of at least 1m, such as 24h", s.get(s.idempotencyTTL))
	}
	if c.PartitionSize, err = strconv.ParseInt(s.get(s.partitionSize), 10, 64); err != nil || c.PartitionSize < 1000 || c.PartitionSize > 1_000_000_000 {
		wrong(s.partitionSize, "%q is not a number from 1000 to 1000000000", s.get(s.partitionSize))
	}
	if c.TracesURL, err = s.tracesURL(); err != nil {
		problems = append(problems, err)
	}
	for _, one := range []struct {
		*setting
		value *time.Duration
	}{{s.shutdownDelay, &c.ShutdownDelay}, {s.shutdownTimeout, &c.ShutdownTimeout}} {
		if *one.value, err = time.ParseDuration(s.get(one.setting)); err != nil || *one.value < 0 {
			wrong(one.setting, "%q is not a duration, such as 5s", s.get(one.setting))
		}
	}
	if c.Log, err = s.logger(stderr); err != nil {
		problems = append(problems, err)
	}
	if len(problems) > 0 {
		return Config{}, Usage(errors.Join(problems...))
	}
	s.warnOfSecrets(c.Log)
	return c, nil
}

// tracesURL returns where to send traces, "" if tracing is off. Besides the setting it obeys the variables of OpenTelemetry's
// specification for whether, where and how to send traces; the SDK reads the others itself.
func (s *Settings) tracesURL() (string, error) {
	var problems []error
	where := s.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	if general := s.get(s.otlpEndpoint); where == "" && general != "" {
		where = strings.TrimRight(general, "/") + "/v1/traces"
	}
	exporter := s.Getenv("OTEL_TRACES_EXPORTER")
	if where == "" || exporter == "none" || strings.EqualFold(s.Getenv("OTEL_SDK_DISABLED"), "true") {
		return "", nil
	}
	if exporter != "" && exporter != "otlp" {
		problems = append(problems, fmt.Errorf("OTEL_TRACES_EXPORTER: %q is not one that Passbook has; use otlp or none", exporter))
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if protocol := s.Getenv(name); protocol == "http/protobuf" {
			break // the first of them decides
		} else if protocol != "" {
			problems = append(problems, fmt.Errorf("%s: %q is not one that Passbook speaks; use http/protobuf", name, protocol))
			break
		}
	}
	if u, err := url.Parse(where); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		problems = append(problems, fmt.Errorf("%s (--%s): %q is not the URL of a collector, such as http://127.0.0.1:4318",
			s.otlpEndpoint.env, s.otlpEndpoint.flag, where))
	}
	return where, errors.Join(problems...)
}

// foreign matches variables that are not settings: those that Kubernetes sets in every pod for a service whose name begins
// with passbook, and the directory where the scripts of the repository keep their tools.
var foreign = regexp.MustCompile(`^PASSBOOK_((\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)|TOOLS)$`)

// unknown reports variables that look like settings but are not, most of them misspelt.
func (s *Settings) unknown() (problems []error) {
	known := make(map[string]bool)
	for _, one := range s.all {
		known[one.env] = true
	}
	for _, name := range slices.Sorted(maps.Keys(s.environ)) {
		if !strings.HasPrefix(name, "PASSBOOK_") || known[name] || foreign.MatchString(name) {
			continue
		}
		meant := ""
		for _, one := range s.all {
			if letters(one.env) == letters(name) {
				meant = "; " + one.env + " is meant?"
			}
		}
		problems = append(problems, fmt.Errorf("%s: there is no such setting%s", name, meant))
	}
	return problems
}

// letters returns the sorted letters of a name: most typos swap two or lose an underscore.
func letters(name string) string {
	all := []rune(strings.ReplaceAll(strings.ToUpper(name), "_", ""))
	slices.Sort(all)
	return string(all)
}

// warnOfSecrets warns of secrets on the command line, which every user of the machine can see in the list of processes.
func (s *Settings) warnOfSecrets(log *slog.Logger) {
	for _, one := range []struct{ value, file *setting }{
		{s.databaseURL, s.databaseURLFile},
		{s.queryDatabaseURL, s.queryDatabaseURLFile},
		{s.directDatabaseURL, s.directDatabaseURLFile},
		{s.keysDatabaseURL, s.keysDatabaseURLFile},
		{s.key, s.keyFile},
	} {
		if !s.flags.Changed(one.value.flag) {
			continue
		}
		secret := *one.value.value
		if one.value != s.key {
			c, err := pgxpool.ParseConfig(secret)
			if err != nil || !hasPassword(secret, c.ConnConfig.Password) {
				continue // it has no password
			}
		}
		if secret != "" {
			log.Warn("a secret on the command line can be seen by every user of this machine: set "+one.value.env+
				" in the environment, or name a file", "flag", "--"+one.value.flag, "instead", "--"+one.file.flag)
		}
	}
}

// hasPassword reports whether the password of a database URL was read from the URL itself.
func hasPassword(text, password string) bool {
	return password != "" && (strings.Contains(text, url.QueryEscape(password)) || strings.Contains(text, password))
}

// dataDirectory returns the directory of the private PostgreSQL; its default follows the XDG base directory specification.
func (s *Settings) dataDirectory() (string, error) {
	if dir := s.get(s.dataDir); dir != "" {
		return filepath.Abs(dir)
	}
	if os.Geteuid() == 0 {
		return "/var/lib/passbook", nil
	}
	if dir := s.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "passbook"), nil
	}
	home := s.Getenv("HOME")
	if home == "" {
		return "", errors.New("HOME is not set, so there is no default; name a directory")
	}
	return filepath.Join(home, ".local", "share", "passbook"), nil
}

// DataDirGiven reports whether the data directory was named, and is not the default.
func (s *Settings) DataDirGiven() bool { return s.get(s.dataDir) != "" }

func (s *Settings) logger(stderr io.Writer) (*slog.Logger, error) {
	var problems []error
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.get(s.logLevel))); err != nil {
		problems = append(problems, fmt.Errorf("%s (--%s): %q is not a level; use debug, info, warn or error",
			s.logLevel.env, s.logLevel.flag, s.get(s.logLevel)))
	}
	format := s.get(s.logFormat)
	if format == "" {
		format = "json"
		if f, ok := stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			format = "text"
		}
	}
	options := &slog.HandlerOptions{Level: level}
	handler := slog.DiscardHandler
	switch strings.ToLower(format) {
	case "text":
		handler = slog.NewTextHandler(stderr, options)
	case "json":
		handler = slog.NewJSONHandler(stderr, options)
	default:
		problems = append(problems, fmt.Errorf("%s (--%s): %q is not a format; use text or json",
			s.logFormat.env, s.logFormat.flag, format))
	}
	return slog.New(handler), errors.Join(problems...)
}

// Redact returns a connection string without its password, for logs.
func Redact(databaseURL string) string {
	c, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return "(unreadable)"
	}
	u := url.URL{Scheme: "postgres", User: url.User(c.User), Host: net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))), Path: "/" + c.Database}
	return u.String()
}
