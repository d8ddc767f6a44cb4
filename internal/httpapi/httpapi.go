// Package httpapi is the API over HTTP: handlers for the routes of api/openapi.yaml. Package request reads requests, package
// feed serves the log, and only problem.go turns an error into a status.
package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/semaphore"

	"passbook/internal/auth"
	"passbook/internal/command"
	"passbook/internal/httpapi/feed"
	"passbook/internal/httpapi/genapi"
	"passbook/internal/httpapi/request"
	"passbook/internal/merkle"
	"passbook/internal/projector"
	"passbook/internal/query"
	"passbook/internal/webhook"
)

// Commands is the write side.
type Commands interface {
	// Do applies one command. Its errors are those of packages command and account.
	Do(ctx context.Context, r command.Request) (command.Result, error)
	// DoEach applies commands in order, each on its own, and returns an outcome for each.
	DoEach(ctx context.Context, requests []command.Request) []command.Outcome
	// DoAll applies all commands or none. The error of a single command is a *command.ItemError.
	DoAll(ctx context.Context, requests []command.Request) ([]command.Result, error)
}

// Queries is the read side. The second result is the position the read model had applied; it is valid with
// query.ErrNotFound and query.ErrBehind too.
type Queries interface {
	Account(ctx context.Context, id uuid.UUID, w query.Wait) (query.Account, int64, error)
	Accounts(ctx context.Context, f query.ListFilter, w query.Wait) (query.Page, int64, error)
}

// Holds is the read side of holds. The second result is that of Queries.
type Holds interface {
	Hold(ctx context.Context, account, id uuid.UUID, w query.Wait) (query.Hold, int64, error)
	Holds(ctx context.Context, account uuid.UUID, f query.HoldFilter, w query.Wait) (query.HoldPage, int64, error)
	ExpiringHolds(ctx context.Context, f query.ExpiringFilter, w query.Wait) (query.HoldPage, int64, error)
}

// Movements is the read side of movements across accounts. The second result is that of Queries.
type Movements interface {
	Search(ctx context.Context, f query.SearchFilter, w query.Wait) (query.MovementPage, int64, error)
	Transfer(ctx context.Context, id uuid.UUID, w query.Wait) (query.Transfer, int64, error)
}

// Statements is the read side of the past: movements of money, balances as of a moment, and totals. The second result is that of
// Queries.
type Statements interface {
	Statement(ctx context.Context, id uuid.UUID, f query.StatementFilter, w query.Wait) (query.Statement, int64, error)
	BalanceAt(ctx context.Context, id uuid.UUID, at query.AsOf, w query.Wait) (query.BalanceAt, int64, error)
	Period(ctx context.Context, id uuid.UUID, from, to *time.Time, w query.Wait) (query.Period, int64, error)
	PeriodMovements(ctx context.Context, p *query.Period, after int64, limit int) ([]query.Transaction, error)
	Totals(ctx context.Context, w query.Wait) ([]query.Total, int64, error)
}

// Statistics is the read side of current activity. The second result is that of Queries.
type Statistics interface {
	Stats(ctx context.Context, w query.Wait) (query.Stats, int64, error)
}

// Projections returns the status of projections.
type Projections interface {
	Projections(ctx context.Context) ([]projector.Status, error)
	Projection(ctx context.Context, id string) (projector.Status, error)
}

// ProjectionControl pauses and resumes projections.
type ProjectionControl interface {
	Pause(ctx context.Context, id string) (projector.Status, error)
	Resume(ctx context.Context, id string) (projector.Status, error)
}

// Replays rebuilds projections.
type Replays interface {
	StartReplay(ctx context.Context, id string) (projector.Replay, error)
	Replay(ctx context.Context, id string, replayID uuid.UUID) (projector.Replay, error)
	CancelReplay(ctx context.Context, id string, replayID uuid.UUID) (projector.Replay, error)
}

// Generations lists past replays, and rolls a projection back to its previous generation.
type Generations interface {
	Replays(ctx context.Context, id string, limit int) ([]projector.Replay, error)
	Rollback(ctx context.Context, id string) (projector.Status, error)
}

// Failures lists the events that a projection could not apply, and retries them.
type Failures interface {
	Failures(ctx context.Context, id string, after int64, limit int) ([]projector.Failure, error)
	RetryFailure(ctx context.Context, id string, position int64) (projector.Failure, error)
}

// Webhooks tells how the subscriptions stand.
type Webhooks interface {
	Webhooks(ctx context.Context) ([]webhook.Webhook, error)
	Webhook(ctx context.Context, id uuid.UUID) (webhook.Webhook, error)
	Deliveries(ctx context.Context, id uuid.UUID, before int64, limit int) ([]webhook.Delivery, error)
}

// WebhookControl makes, changes and deletes subscriptions.
type WebhookControl interface {
	CreateWebhook(ctx context.Context, n webhook.New) (w webhook.Webhook, secret string, err error)
	ChangeWebhook(ctx context.Context, id uuid.UUID, c webhook.Change) (webhook.Webhook, error)
	DeleteWebhook(ctx context.Context, id uuid.UUID) error
}

// WebhookRules are the rules of subscriptions, and their secrets.
type WebhookRules interface {
	CheckURL(text string) error
	RotateSecret(ctx context.Context, id uuid.UUID, overlap time.Duration) (w webhook.Webhook, secret string, err error)
}

// Proofs is the signed Merkle tree over the log. Its errors are merkle.ErrNoCheckpoint and merkle.ErrNotSigned.
type Proofs interface {
	Signed(ctx context.Context) (signed string, size int64, err error)
	Inclusion(ctx context.Context, position, size int64) (merkle.Inclusion, error)
	Consistency(ctx context.Context, from, to int64) (hashes tlog.TreeProof, size int64, err error)
}

// Check is the result of one readiness check. Detail is public unless Private is set: with authentication it then requires the
// scope projections:read.
type Check struct {
	Name    string
	OK      bool
	Detail  string
	Private bool
}

// Config configures a handler. All fields are required unless they say otherwise.
type Config struct {
	// Commands is nil on a follower.
	Commands    Commands
	Queries     Queries
	Statements  Statements
	Holds       Holds
	Movements   Movements
	Projections Projections
	Control     ProjectionControl
	Replays     Replays
	Generations Generations
	Failures    Failures
	Statistics  Statistics
	// A *webhook.Service is all three.
	Webhooks       Webhooks
	WebhookControl WebhookControl
	WebhookRules   WebhookRules
	Proofs         Proofs
	// Subjects is nil if personal text is not sealed.
	Subjects Subjects
	// Follower says that the log is written by a relay's stream: commands get 421, which names PrimaryURL if that is set.
	Follower   bool
	PrimaryURL string
	// Stopping is closed when the service stops, so that streams of a replay's progress end. It may be nil.
	Stopping <-chan struct{}
	// Feed is the log as GET /events shows it. The caller runs and stops it.
	Feed *feed.Feed
	// Streams bounds the streams of events; its zero value stands for defaults.
	Streams StreamTimes
	// Recorder takes the records of the access audit; it is nil if the audit is off. AccessRecords returns those of any time.
	Recorder      Recorder
	AccessRecords AccessRecords
	// Authenticator identifies callers and their scopes; without one, every caller may do everything.
	Authenticator Authenticator
	// Authentication is the kind of the Authenticator: "keys" or "oidc".
	Authentication string
	// Hosts are the host names and addresses, without ports, that requests may be addressed to, in addition to loopback ones. They
	// apply only without an Authenticator: any other Host is then refused, and so is a cross-origin request that changes
	// something.
	Hosts []string
	// CORSOrigins are the origins, such as https://app.example, whose pages may use the API from a browser.
	CORSOrigins []string
	// BasePath is the path at which a proxy mounts the service, such as /bank, or empty. Requests may have it or not, because a
	// proxy may strip it. References in responses have it.
	BasePath string
	// RateLimit is how many requests a second a caller may send; 0 means no limit. Without authentication, and for requests
	// without a valid credential, a caller is an address.
	RateLimit float64
	// MaxStreams is how many streams of events, and how many requests to POST /commands, may be open at once; 0 means 256.
	// MaxStreamsPerCaller is how many of each one caller may have; 0 means a quarter of MaxStreams. Without authentication a
	// caller is an address.
	MaxStreams, MaxStreamsPerCaller int
	// Bulk bounds the requests to POST /commands together; its zero value stands for defaults.
	Bulk BulkLimits
	// Ready runs the readiness checks; it must return before the context's deadline.
	Ready func(ctx context.Context) []Check
	// Started reports whether the database's schema is in place. Until then everything that needs it gets 503.
	Started func() bool
	// Unavailable reports whether an error is that of an unavailable database, which gets 503, and not an unexpected one.
	Unavailable func(error) bool
	// Logger gets a line for each request, and the causes of unexpected errors.
	Logger *slog.Logger
	// Registry gets the metrics of this package; /metrics serves all that it has.
	Registry *prometheus.Registry
	// Version is the server's, as /livez shows it.
	Version string
}

func (c *Config) validate() error {
	switch {
	case c.Commands == nil && !c.Follower, c.Queries == nil, c.Statements == nil, c.Projections == nil, c.Control == nil, c.Replays == nil, c.Feed == nil:
		return errors.New("httpapi: a service is missing")
	case c.Holds == nil, c.Movements == nil, c.Generations == nil, c.Failures == nil, c.Statistics == nil:
		return errors.New("httpapi: a service of the projections is missing")
	case c.Webhooks == nil, c.WebhookControl == nil, c.WebhookRules == nil:
		return errors.New("httpapi: a service of the webhooks is missing")
	case c.Proofs == nil, c.AccessRecords == nil:
		return errors.New("httpapi: Proofs and AccessRecords are required")
	case c.Ready == nil, c.Started == nil, c.Unavailable == nil, c.Logger == nil, c.Registry == nil:
		return errors.New("httpapi: Ready, Started, Unavailable, Logger and Registry are required")
	}
	return nil
}

// server implements ServerInterface.
type server struct {
	commands    Commands
	queries     Queries
	statements  Statements
	holds       Holds
	movements   Movements
	projections Projections
	control     ProjectionControl
	replays     Replays
	generations Generations
	failures    Failures
	statistics  Statistics
	webhooks    Webhooks
	subscribe   WebhookControl
	hookRules   WebhookRules
	proofs      Proofs
	subjects    Subjects // nil if personal text is not sealed
	stopping    <-chan struct{}
	watching    *shares // streams of a replay's progress
	feed        *feed.Feed
	streams     StreamTimes
	cutOff      prometheus.Counter
	ready       func(ctx context.Context) []Check
	started     func() bool
	unavailable func(error) bool
	log         *slog.Logger
	version     string
	spec        *request.Spec
	mux         chi.Routes
	base        basePath
	docs        *docs
	schemas     map[string]dataSchema // of the data of events, by type
	console     console
	metrics     http.Handler

	bulks         *shares // requests to POST /commands
	tails         *shares // streams of events
	bulkLimits    BulkLimits
	bulkMemory    *semaphore.Weighted // of BulkLimits.Memory
	authenticator Authenticator       // nil without authentication
	authKind      genapi.MeAuthentication
	recorder      Recorder // nil without access audit
	accessRecords AccessRecords
	follower      bool
	primaryURL    string
	origin        *origin // nil with authentication
	corsOrigins   []string
}

// New returns the handler of the whole API. It fails when the configuration is incomplete, or the metrics are already registered.
func New(c Config) (http.Handler, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	naming := c.Feed.Naming()
	doc, err := loadDocument(naming.TypePrefix)
	if err != nil {
		return nil, err
	}
	schemas, err := newDataSchemas(doc, naming)
	if err != nil {
		return nil, err
	}
	base := basePath(c.BasePath)
	if err := base.check(doc.spec); err != nil {
		return nil, err
	}
	docs, err := newDocs(doc.text, base)
	if err != nil {
		return nil, err
	}
	console, err := newConsole()
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(c.Registry)
	if err != nil {
		return nil, err
	}
	cutOff, err := newFeedMetrics(c.Registry, c.Feed)
	if err != nil {
		return nil, err
	}
	s := &server{
		base: base, authenticator: c.Authenticator, recorder: c.Recorder, accessRecords: c.AccessRecords, authKind: genapi.MeAuthentication(c.Authentication), follower: c.Follower, primaryURL: c.PrimaryURL,
		feed: c.Feed, streams: c.Streams.orDefault(), cutOff: cutOff,
		commands: c.Commands, queries: c.Queries, statements: c.Statements, holds: c.Holds, movements: c.Movements, projections: c.Projections, control: c.Control, replays: c.Replays,
		generations: c.Generations, failures: c.Failures, statistics: c.Statistics, webhooks: c.Webhooks, subscribe: c.WebhookControl, hookRules: c.WebhookRules, proofs: c.Proofs, subjects: c.Subjects, stopping: c.Stopping,
		ready: c.Ready, started: c.Started, unavailable: c.Unavailable, log: c.Logger, version: c.Version, spec: doc.spec, docs: docs, schemas: schemas, console: console,
		metrics: promhttp.HandlerFor(c.Registry, promhttp.HandlerOpts{EnableOpenMetrics: true}),
	}
	all := cmp.Or(c.MaxStreams, defaultStreams)
	each := cmp.Or(c.MaxStreamsPerCaller, shareOf(all))
	s.bulks = newShares("requests to POST /commands", all, each, 1)
	s.tails = newShares("streams of events", all, each, 5)
	s.watching = newShares("streams of a replay's progress", maxWatching, shareOf(maxWatching), 5)
	s.bulkLimits = c.Bulk.orDefault()
	s.bulkMemory = semaphore.NewWeighted(s.bulkLimits.Memory)
	if s.origin, err = s.newOrigin(c.Hosts, c.CORSOrigins); err != nil {
		return nil, err
	}
	s.corsOrigins = c.CORSOrigins
	return s.routes(m, s.guard(c.RateLimit)), nil
}

// newOrigin returns nil with authentication.
func (s *server) newOrigin(hosts, trusted []string) (*origin, error) {
	if s.authenticator != nil {
		return nil, nil
	}
	o := &origin{crossOrigin: http.NewCrossOriginProtection(), fail: s.fail}
	for _, host := range hosts {
		o.hosts = append(o.hosts, strings.ToLower(host))
	}
	for _, one := range trusted {
		if err := o.crossOrigin.AddTrustedOrigin(one); err != nil {
			return nil, fmt.Errorf("httpapi: the origin %q: %w", one, err)
		}
	}
	return o, nil
}

// defaultStreams is the default of Config.MaxStreams.
const defaultStreams = 256

// guard returns nil without authentication and rate limit.
func (s *server) guard(rateLimit float64) *guard {
	if s.authenticator == nil && rateLimit <= 0 {
		return nil
	}
	g := &guard{authenticator: s.authenticator, fail: s.fail}
	if rateLimit > 0 {
		g.limits = newLimits(rateLimit)
	}
	return g
}

func (s *server) routes(m *metrics, g *guard) http.Handler {
	mux := chi.NewRouter()
	s.mux = mux
	mux.Use((&edge{log: s.log, metrics: m, base: s.base, fail: s.fail}).handle)
	if len(s.corsOrigins) > 0 { // before any refusal, so that a page can read it
		mux.Use(newCORS(s.corsOrigins).Handler)
	}
	if s.origin != nil {
		mux.Use(s.origin.protect)
	}
	if g != nil {
		mux.Use(g.identify)
	}
	mux.Use(middleware.GetHead)
	mux.NotFound(s.routeNotFound)
	mux.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) { s.methodNotAllowed(mux, w, r) })
	s.docs.routes(mux)
	s.consoleRoutes(mux)
	chain := chi.Middlewares{s.awaitStart, s.validateParameters}
	if s.recorder != nil {
		chain = append(chi.Middlewares{s.recordAccess}, chain...)
	}
	if s.follower {
		chain = append(chi.Middlewares{s.refuseCommands}, chain...)
	}
	if s.authenticator != nil {
		chain = append(chi.Middlewares{s.authorize}, chain...)
	}
	genapi.HandlerWithOptions(s, genapi.ChiServerOptions{
		BaseRouter:       mux.With(chain...),
		ErrorHandlerFunc: func(w http.ResponseWriter, r *http.Request, err error) { s.fail(w, r, bindingProblem(err)) },
	})
	return mux
}

// needsNoDatabase are the routes that work while the service is starting.
var needsNoDatabase = map[string]bool{
	"/": true, "/livez": true, "/readyz": true, "/metrics": true, "/openapi.yaml": true, "/docs": true, "/console": true,
}

// awaitStart refuses requests until the database's schema is in place.
func (s *server) awaitStart(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.started() && !needsNoDatabase[r.URL.Path] {
			p := newProblem(kindUnavailable, "The service is starting and waits for its database; retry shortly.")
			p.retryAfter = 1
			s.fail(w, r, p)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// operation returns the operation that a routed request is for, or nil.
func (s *server) operation(r *http.Request) *request.Operation {
	return s.spec.Operation(r.Method, routeOf(r))
}

// refuseCommands refuses what a follower cannot do, before it reads the body.
func (s *server) refuseCommands(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if op := s.operation(r); op != nil && (op.Scope == auth.AccountsWrite || op.Scope == auth.SubjectsErase) {
			s.fail(w, r, notPrimary(s.primaryURL))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// validateParameters refuses parameters that the specification does not allow.
func (s *server) validateParameters(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if op := s.operation(r); op != nil {
			if err := op.CheckParameters(r); err != nil {
				s.fail(w, r, err)
				return
			}
		}
		request.JoinHeaders(r.Header)
		next.ServeHTTP(w, r)
	})
}

// negotiate returns the media type to respond in, and adds Vary where it depends on the request.
func (s *server) negotiate(w http.ResponseWriter, r *http.Request) string {
	op := s.operation(r)
	if op == nil {
		return ""
	}
	if op.Negotiates() {
		w.Header()["Vary"] = []string{"Accept"}
	}
	return op.PreferredType(r.Header)
}

func (s *server) routeNotFound(w http.ResponseWriter, r *http.Request) {
	s.fail(w, r, newProblem(kindRouteNotFound, "No operation has this path; /docs lists all operations."))
}

// methods are those that a route may have, in the order in which Allow lists them.
var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
}

func (s *server) methodNotAllowed(mux chi.Routes, w http.ResponseWriter, r *http.Request) {
	path := r.URL.RawPath
	if path == "" {
		path = r.URL.Path
	}
	allow := ""
	for _, method := range methods {
		look := method
		if look == http.MethodHead {
			look = http.MethodGet
		}
		if mux.Match(chi.NewRouteContext(), look, path) {
			if allow != "" {
				allow += ", "
			}
			allow += method
		}
	}
	if allow == "" { // an unknown method on an unknown path
		s.routeNotFound(w, r)
		return
	}
	w.Header().Set("Allow", allow)
	s.fail(w, r, newProblem(kindMethodNotAllowed, "This path supports "+allow+"."))
}
