package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"passbook/internal/access"
	"passbook/internal/account"
	"passbook/internal/auth"
	"passbook/internal/command"
	"passbook/internal/httpapi/feed"
	"passbook/internal/httpapi/genapi"
	"passbook/internal/httpapi/request"
	"passbook/internal/merkle"
	"passbook/internal/projector"
	"passbook/internal/query"
	"passbook/internal/subject"
	"passbook/internal/webhook"
)

// This file is the only place where an error becomes a status.

// kind is a kind of problem: its code is stable, and its status and title never vary.
type kind struct {
	status      int
	code, title string
}

var (
	kindInvalidJSON      = kind{http.StatusBadRequest, "invalid-json", "The body is not valid JSON"}
	kindUnreadableBody   = kind{http.StatusBadRequest, "unreadable-body", "The body could not be read"}
	kindInvalidBody      = kind{http.StatusUnprocessableEntity, "invalid-body", "The body does not match the operation"}
	kindInvalidParameter = kind{http.StatusBadRequest, "invalid-parameter", "A parameter is not valid"}
	kindInvalidHeader    = kind{http.StatusBadRequest, "invalid-header", "A header is not valid"}
	kindInvalidCursor    = kind{http.StatusBadRequest, "invalid-cursor", "The cursor is not valid"}
	kindMediaType        = kind{http.StatusUnsupportedMediaType, "unsupported-media-type", "The media type is not supported"}
	kindBodyTooLarge     = kind{http.StatusRequestEntityTooLarge, "body-too-large", "The body is too large"}
	kindURITooLong       = kind{http.StatusRequestURITooLong, "uri-too-long", "The URL is too long"}
	kindRouteNotFound    = kind{http.StatusNotFound, "not-found", "No such path"}
	kindMethodNotAllowed = kind{http.StatusMethodNotAllowed, "method-not-allowed", "The path does not support the method"}

	kindAccountNotFound  = kind{http.StatusNotFound, "account-not-found", "No such account"}
	kindTransferNotFound = kind{http.StatusNotFound, "transfer-not-found", "No such transfer"}
	kindAccountExists    = kind{http.StatusConflict, "account-exists", "The account already exists"}
	kindTransferExists   = kind{http.StatusConflict, "transfer-exists", "The transfer already exists"}
	kindHoldExists       = kind{http.StatusConflict, "hold-exists", "The hold already exists"}
	kindHoldNotFound     = kind{http.StatusNotFound, "hold-not-found", "No such hold"}
	kindMovementNotFound = kind{http.StatusNotFound, "movement-not-found", "No such movement"}
	kindVersionMismatch  = kind{http.StatusPreconditionFailed, "version-mismatch", "The account is at another version"}
	kindPrecondition     = kind{http.StatusPreconditionFailed, "precondition-failed", "The condition is not met"}
	kindKeyReused        = kind{http.StatusUnprocessableEntity, "idempotency-key-reused", "The key was used for another request"}
	kindKeyInFlight      = kind{http.StatusConflict, "idempotency-key-in-flight", "The first request is still running"}
	kindOverloaded       = kind{http.StatusServiceUnavailable, "overloaded", "Too many commands are waiting"}
	kindUnavailable      = kind{http.StatusServiceUnavailable, "unavailable", "The database is unavailable"}

	kindBehind             = kind{http.StatusServiceUnavailable, "projection-behind", "The read model is behind"}
	kindProjectionNotFound = kind{http.StatusNotFound, "projection-not-found", "No such projection"}
	kindReplayNotFound     = kind{http.StatusNotFound, "replay-not-found", "No such replay"}
	kindReplayFinished     = kind{http.StatusConflict, "replay-finished", "The replay has ended"}
	kindReplayRunning      = kind{http.StatusConflict, "replay-running", "A replay is running"}

	kindSubjectNotFound = kind{http.StatusNotFound, "subject-not-found", "No such subject"}
	kindKeyMissing      = kind{http.StatusServiceUnavailable, "subject-key-missing", "A subject's key is missing"}
	kindErasureOff      = kind{http.StatusConflict, "erasure-off", "Personal text is not sealed"}

	kindWebhookNotFound = kind{http.StatusNotFound, "webhook-not-found", "No such webhook"}
	kindTooManyWebhooks = kind{http.StatusConflict, "too-many-webhooks", "There are too many webhooks"}

	kindNoCheckpoint = kind{http.StatusNotFound, "no-checkpoint", "The log is not signed"}
	kindNotSigned    = kind{http.StatusNotFound, "not-signed-yet", "The tree does not reach this far"}

	kindFailureNotFound = kind{http.StatusNotFound, "failure-not-found", "No such failure"}
	kindNoPrevious      = kind{http.StatusConflict, "no-previous-generation", "There is nothing to roll back to"}
	kindRollbackFailed  = kind{http.StatusConflict, "rollback-failed", "The rollback has failed"}
	kindEventsArchived  = kind{http.StatusGone, "events-archived", "The events are in the archive"}
	kindLogWentBack     = kind{http.StatusConflict, "log-went-back", "The log does not reach this position"}
	kindShareUsed       = kind{http.StatusTooManyRequests, "caller-share-used", "The caller has reached its limit"}
	kindTooManyStreams  = kind{http.StatusServiceUnavailable, "too-many-streams", "Too many streams are open"}

	kindAuditUnavailable = kind{http.StatusServiceUnavailable, "audit-unavailable", "The read cannot be recorded"}

	kindNotApplied = kind{http.StatusFailedDependency, "not-applied", "Another command of the batch was refused"}

	kindUnauthenticated   = kind{http.StatusUnauthorized, "unauthenticated", "A credential is needed"}
	kindBadCredential     = kind{http.StatusUnauthorized, "invalid-credential", "The credential is not valid"}
	kindScope             = kind{http.StatusForbidden, "insufficient-scope", "The credential does not allow this"}
	kindIssuerUnavailable = kind{http.StatusServiceUnavailable, "issuer-unavailable", "Tokens cannot be checked"}
	kindMisdirected       = kind{http.StatusMisdirectedRequest, "misdirected-request", "The request is addressed to another host"}
	kindNotPrimary        = kind{http.StatusMisdirectedRequest, "not-primary", "A follower takes no commands"}
	kindCrossOrigin       = kind{http.StatusForbidden, "cross-origin-request", "A page of another origin sent the request"}
	kindRateLimited       = kind{http.StatusTooManyRequests, "rate-limited", "Too many requests"}

	kindAccountArchived = kind{http.StatusServiceUnavailable, "account-archived", "The account is in the archive"}

	kindInternal = kind{http.StatusInternalServerError, "internal-error", "Unexpected error"}
)

const internalDetail = "The server's log has the cause under the request id. Retry a command only with its Idempotency-Key."

const unavailableDetail = "The database is unavailable or too slow; retry shortly. Whether a command was applied is not known: " +
	"retry it with the same Idempotency-Key, and it is applied once."

const keysUnavailableDetail = "The database of the subjects' keys is unavailable or too slow, and the request needs a key that is not in memory; retry shortly."

// unreadable maps the reasons of package request to kinds of problem.
var unreadable = map[request.Reason]kind{
	request.InvalidJSON:      kindInvalidJSON,
	request.UnreadableBody:   kindUnreadableBody,
	request.InvalidBody:      kindInvalidBody,
	request.InvalidParameter: kindInvalidParameter,
	request.InvalidHeader:    kindInvalidHeader,
	request.WrongMediaType:   kindMediaType,
	request.BodyTooLarge:     kindBodyTooLarge,
}

// problem is an error with its response.
type problem struct {
	body genapi.Problem
	// location and retryAfter (seconds) are the headers of these names, when set.
	location   string
	retryAfter int
	// challenge is the header WWW-Authenticate.
	challenge string
	// field is the command's field at fault, if any, and fault says what is wrong with it.
	field, fault string
}

func (p *problem) Error() string { return p.body.Code + ": " + p.body.Detail }

func newProblem(k kind, detail string, errs ...genapi.FieldError) *problem {
	return &problem{body: genapi.Problem{
		Type: "urn:passbook:problem:" + k.code, Title: k.title, Status: k.status, Code: k.code,
		Detail: detail, Errors: errs,
	}}
}

// commandError is the error of a command, with the place in the request that the command was read from.
type commandError struct {
	source request.Source
	err    error
}

func (e *commandError) Error() string { return e.err.Error() }

func (e *commandError) Unwrap() error { return e.err }

// faults maps errors in known to the command's field at fault.
var faults = map[error]string{
	account.ErrNotFound:         account.FieldAccount,
	account.ErrExists:           account.FieldAccount,
	account.ErrTransferExists:   account.FieldTransfer,
	account.ErrHoldExists:       account.FieldHold,
	account.ErrHoldNotFound:     account.FieldHold,
	account.ErrMovementNotFound: account.FieldPosition,
	command.ErrKeyReused:        request.FieldKey,
	command.ErrKeyInFlight:      request.FieldKey,
}

// known are the errors of the layers below that need nothing but a status, a sentence and perhaps Retry-After.
var known = []struct {
	err        error
	kind       kind
	detail     string
	retryAfter int
}{
	{account.ErrNotFound, kindAccountNotFound, "No account has this id; check it, or open the account with POST /accounts.", 0},
	{account.ErrExists, kindAccountExists, "An account with this id exists; use another id, or leave account_id out to be given one.", 0},
	{
		account.ErrTransferExists, kindTransferExists,
		"A transfer with this id exists; use another id, or leave transfer_id out to be given one.", 0,
	},
	{account.ErrHoldExists, kindHoldExists, "A hold with this id exists; use another id, or leave hold_id out to be given one.", 0},
	{account.ErrHoldNotFound, kindHoldNotFound, "The account has no hold with this id; GET /accounts/{id}/holds lists those it has.", 0},
	{
		account.ErrMovementNotFound, kindMovementNotFound,
		"The log has no event at this position; use the position of a movement, as in its receipt or GET /accounts/{id}/transactions.", 0,
	},
	{
		command.ErrKeyReused, kindKeyReused,
		"This Idempotency-Key was used with a different request; use a new key for a new request.", 0,
	},
	{
		command.ErrKeyInFlight, kindKeyInFlight,
		"The first request with this Idempotency-Key is still running; retry shortly.", 1,
	},
	{
		command.ErrArchived, kindAccountArchived,
		"Nothing was done. The events of the account are in the archive, and this release cannot read the snapshot that another has left of it: " +
			"attach the archive with server archive attach; docs/operations.md says how.", 60,
	},
	{command.ErrOverloaded, kindOverloaded, "Nothing was done; retry shortly.", 1},
	{command.ErrUnavailable, kindUnavailable, "The service is stopping; nothing was done. Retry shortly.", 1},
	{query.ErrNotOpenThen, kindAccountNotFound, "The account had not been opened at that moment; ask for a later one.", 0},
	{query.ErrHoldNotFound, kindHoldNotFound, "The account has no hold with this id; if it was placed a moment ago, read with min_position.", 0},
	{query.ErrTransferNotFound, kindTransferNotFound, "No transfer has this id; if it was made a moment ago, read with min_position.", 0},
	{query.ErrNotFound, kindAccountNotFound, "The read model has no account with this id; if it was opened a moment ago, read with min_position.", 0},
	{query.ErrBehind, kindBehind, "The read model has not applied the position yet; retry shortly, or allow more time with Prefer: wait.", 1},
	{projector.ErrUnknownProjection, kindProjectionNotFound, "No projection has this id; GET /projections lists them.", 0},
	{projector.ErrUnknownReplay, kindReplayNotFound, "The projection has no replay with this id; GET /projections/{id}/replays lists them.", 0},
	{projector.ErrUnknownFailure, kindFailureNotFound, "No failure is recorded at this position; it may have been resolved since; GET /projections/{id}/failures lists those that are left.", 0},
	{
		projector.ErrNoPreviousGeneration, kindNoPrevious,
		"The projection has not been rebuilt, or a replay has begun since, or its read model is not in PostgreSQL; start a replay instead.", 0,
	},
	{
		projector.ErrRollbackFailed, kindRollbackFailed,
		"The live generation still serves reads; see the error of the projection's latest replay.", 0,
	},
	{projector.ErrReplayFinished, kindReplayFinished, "The replay has ended and can no longer be cancelled; GET /projections/{id}/replays says how it ended.", 0},
	{subject.ErrNotFound, kindSubjectNotFound, "No account was opened for this subject, and none has this id.", 0},
	{webhook.ErrNotFound, kindWebhookNotFound, "No webhook has this id; GET /webhooks lists them.", 0},
	{webhook.ErrTooMany, kindTooManyWebhooks, "There are 100 webhooks, the most that there may be; delete one that is not needed.", 0},
	{merkle.ErrNoCheckpoint, kindNoCheckpoint, "Nothing has been signed: the server has no PASSBOOK_SIGNING_KEY_FILE, or the log is empty.", 0},
	{
		merkle.ErrNotSigned, kindNotSigned,
		"The tree has fewer events than this position or size, or the first size is above the second; GET /log/checkpoint has the latest size.", 0,
	},
	{feed.ErrTooManyStreams, kindTooManyStreams, "The limit of open event streams is reached; retry shortly, or read pages.", 5},
	{
		feed.ErrWentBack, kindLogWentBack,
		"The log does not hold the event at this position. Either it is a typo, or the log has lost its latest events in a failover or a " +
			"restore. The last events you have may then not have happened: compare their ids with those of the log, and continue after the last that matches.", 0,
	},
	{feed.ErrStopping, kindUnavailable, "The service is stopping; open the stream again shortly.", 1},
	{auth.ErrNotReady, kindUnavailable, "The service is starting and waits for its database; retry shortly.", 1},
	{auth.ErrIssuerUnavailable, kindIssuerUnavailable, "The issuer of tokens cannot be reached, so your token cannot be checked; retry shortly.", 1},
	{context.Canceled, kindUnavailable, "The request was cancelled before it completed; retry it.", 1},
}

// problemOf returns the problem that an expected error stands for, or nil. For a *commandError it locates the field at fault in
// the request.
func problemOf(err error) *problem {
	p := problemWithoutField(err)
	if of, ok := errors.AsType[*commandError](err); ok && p != nil && p.field != "" {
		p.body.Errors = of.source.FieldErrors(p.field, p.body.Code, p.fault)
	}
	return p
}

func problemWithoutField(err error) *problem {
	var (
		p        *problem
		unread   *request.Error
		refusal  *account.Refusal
		notFound *account.NotFoundError
		version  *command.VersionError
		running  *projector.ReplayRunningError
		future   *query.FutureError
	)
	if first, ok := archivedBefore(err); ok {
		p = newProblem(kindEventsArchived, fmt.Sprintf("The log has the events from position %d on; earlier ones are in the archive. "+
			"To read events, begin there; for anything else, have the archive attached with server archive attach.", first))
		p.body.FirstPosition = first
		return p
	}
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &unread):
		return newProblem(unreadable[unread.Reason], unread.Detail, unread.Fields...)
	case errors.As(err, &refusal):
		return refusalProblem(refusal)
	case errors.As(err, &notFound):
		p = newProblem(kindAccountNotFound, "No account has the id "+notFound.AccountID.String()+"; check it.")
		p.field, p.fault = notFound.Field, notFound.Error()
		return p
	case errors.As(err, &version):
		p = newProblem(kindVersionMismatch, "The account is at version "+strconv.FormatInt(version.Have, 10)+
			", which If-Match does not name; read the account again before you retry.")
		p.body.Version = version.Have
		p.field, p.fault = request.FieldVersion, "the account is at version "+strconv.FormatInt(version.Have, 10)
		return p
	case errors.As(err, &running):
		p = newProblem(kindReplayRunning, "The replay "+running.Replay.ID.String()+" of "+running.Replay.Projection+
			" is running; wait until it ends, or cancel it.")
		p.body.ReplayID, p.location = running.Replay.ID, replayPath(running.Replay)
		return p
	case errors.Is(err, webhook.ErrBeyondLog):
		return newProblem(kindInvalidBody, "The log does not reach the position; leave after out to begin at its end.",
			genapi.FieldError{Pointer: "/after", Code: "beyond-the-log", Detail: "after is beyond the end of the log"})
	case errors.Is(err, query.ErrBadCursor), errors.Is(err, access.ErrBadCursor):
		return newProblem(kindInvalidCursor, "The cursor belongs to another list; start again without it.",
			genapi.FieldError{Parameter: "cursor", Code: "invalid", Detail: "cursor must be the next_cursor of a page of this list"})
	case errors.As(err, &future):
		return newProblem(kindInvalidParameter, future.Error()+"; choose a moment that has passed.",
			genapi.FieldError{Parameter: future.Parameter, Code: "in-the-future", Detail: future.Error()})
	}
	for i := range known {
		if k := &known[i]; errors.Is(err, k.err) {
			p = newProblem(k.kind, k.detail)
			p.retryAfter = k.retryAfter
			p.field, p.fault = faults[k.err], k.err.Error()
			return p
		}
	}
	return nil
}

// archivedBefore returns the first position from which on the log has all events, if err says that earlier ones were needed.
func archivedBefore(err error) (first int64, ok bool) {
	if e, ok := errors.AsType[*feed.ArchivedError](err); ok {
		return e.First, true
	}
	if e, ok := errors.AsType[*projector.ArchivedError](err); ok {
		return e.First, true
	}
	if e, ok := errors.AsType[*query.ArchivedError](err); ok {
		return e.First, true
	}
	return 0, false
}

func isArchived(err error) bool {
	_, ok := archivedBefore(err)
	return ok
}

// refusalProblem returns the problem for a command that the domain's rules refuse. Its code is the refusal's own.
func refusalProblem(r *account.Refusal) *problem {
	p := newProblem(kind{http.StatusUnprocessableEntity, r.Code, "The command was refused"}, sentence(r.Detail))
	p.field, p.fault = r.Field, r.Detail
	return p
}

// notPrimary is for a command to a follower.
func notPrimary(url string) *problem {
	where := url
	if where == "" {
		where = "the primary"
	}
	p := newProblem(kindNotPrimary, "This server follows another and takes no commands; nothing was done. Send the command to "+where+
		", and pass the position of its result to this server as min_position.")
	p.body.PrimaryURL = url
	return p
}

// sentence turns a detail of the domain, which begins in lower case as Go errors do, into a sentence.
func sentence(detail string) string {
	first, size := utf8.DecodeRuneInString(detail)
	return string(unicode.ToUpper(first)) + detail[size:] + "."
}

// bindingProblem returns the problem for a parameter that the generated code could not bind. validateParameters refuses most of
// them earlier, with a clearer sentence.
func bindingProblem(err error) error {
	var (
		name    string
		format  *genapi.InvalidParamFormatError
		many    *genapi.TooManyValuesForParamError
		missing *genapi.RequiredParamError
	)
	detail := "is not valid"
	switch {
	case errors.As(err, &format):
		name = format.ParamName
	case errors.As(err, &many):
		name, detail = many.ParamName, "is given more than once"
	case errors.As(err, &missing):
		name, detail = missing.ParamName, "is required"
	default:
		return newProblem(kindInvalidParameter, "A parameter could not be read.")
	}
	if name != "" && 'A' <= name[0] && name[0] <= 'Z' { // only headers are written so
		return request.HeaderError(name, errors.New(detail))
	}
	return request.ParameterError(name, "invalid", detail)
}

// explain is problemOf for a request. It logs the error of an unavailable database and any unexpected error, and returns problems
// for them that do not reveal the cause.
func (s *server) explain(r *http.Request, err error) *problem {
	if p := problemOf(err); p != nil {
		return p
	}
	log := func(level slog.Level, what string) {
		s.log.LogAttrs(r.Context(), level, what, slog.String("route", routeOf(r)),
			slog.String("request_id", exchangeOf(r.Context()).requestID), slog.Any("error", err))
	}
	if s.unavailable(err) {
		detail, text := unavailableDetail, "the database is unavailable; commands and queries get 503 until it recovers"
		if errors.Is(err, subject.ErrDatabase) {
			detail, text = keysUnavailableDetail, "the database of the subjects' keys is unavailable; what needs a key gets 503 until it recovers"
		}
		if exchangeOf(r.Context()).logsOutage(time.Now()) {
			log(slog.LevelWarn, text)
		}
		p := newProblem(kindUnavailable, detail)
		p.retryAfter = 1
		return p
	}
	if missing, ok := errors.AsType[*subject.MissingKeyError](err); ok {
		log(slog.LevelError, "a subject's key is missing")
		p := newProblem(kindKeyMissing, fmt.Sprintf("The key of subject %s is missing, so that its text cannot be read, and no new text is written. "+
			"Restore the latest backup of the subjects' keys; docs/erasure.md says how.", missing.SubjectID))
		p.retryAfter = 60
		return p
	}
	log(slog.LevelError, "unexpected error")
	return newProblem(kindInternal, internalDetail)
}

// problemText renders a problem as the response to a request. The same problem and request id give the same bytes.
func problemText(p *problem, requestID string) (status int, text []byte) {
	body := p.body // a copy: p may be shared
	body.RequestID = requestID
	text, err := json.Marshal(&body)
	if err != nil { // unreachable: every Problem can be encoded
		return http.StatusInternalServerError, []byte(`{}`)
	}
	return body.Status, text
}

// storedRefusal returns the status and the text of the first response to a repeated request, if that response was a refusal.
func storedRefusal(err error) (status int, text []byte, ok bool) {
	before, ok := errors.AsType[*command.RefusedBeforeError](err)
	if !ok {
		return 0, nil, false
	}
	var p genapi.Problem
	if json.Unmarshal(before.Answer, &p) != nil || p.Status < 400 || p.Status > 499 {
		return 0, nil, false
	}
	return p.Status, before.Answer, true
}

// requestIDOf returns the request id in the text of a problem.
func requestIDOf(text []byte) string {
	var p genapi.Problem
	_ = json.Unmarshal(text, &p) // storedRefusal ignores text that is no problem
	return p.RequestID
}

// fail responds with the problem that err stands for.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	h := w.Header()
	h.Del("Etag")
	if status, text, ok := storedRefusal(err); ok {
		h.Set("Idempotency-Replayed", "true")
		write(w, status, "application/problem+json", text)
		return
	}
	p := s.explain(r, err)
	if p.retryAfter > 0 && s.takesNoProblem(r) {
		retryStream(w, p)
		return
	}
	p.respond(w, exchangeOf(r.Context()).requestID)
}

// respond responds with the problem.
func (p *problem) respond(w http.ResponseWriter, requestID string) {
	h := w.Header()
	status, text := problemText(p, requestID)
	if p.location != "" {
		h.Set("Location", p.location)
	}
	if p.challenge != "" {
		h.Set("WWW-Authenticate", p.challenge)
	}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	write(w, status, "application/problem+json", text)
}

// write sends a whole response. It ignores errors of the connection: the response can no longer be changed.
func write(w http.ResponseWriter, status int, mediaType string, body []byte) {
	h := w.Header()
	h["Content-Type"] = []string{mediaType}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec // not HTML: the caller sets the media type
}
