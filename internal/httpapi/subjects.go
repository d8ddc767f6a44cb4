package httpapi

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"passbook/internal/command"
	"passbook/internal/httpapi/genapi"
	"passbook/internal/subject"
)

// Subjects erases people. Its errors are those of package subject.
type Subjects interface {
	Erase(ctx context.Context, id uuid.UUID, m command.Metadata) (subject.Erasure, error)
}

// EraseSubject serves POST /subjects/{subject_id}/erase.
func (s *server) EraseSubject(w http.ResponseWriter, r *http.Request, id uuid.UUID) {
	if s.subjects == nil {
		s.fail(w, r, newProblem(kindErasureOff,
			"Nothing can be erased from an append-only log unless it was sealed: set PASSBOOK_SUBJECT_MASTER_KEY_FILE; docs/erasure.md has the steps."))
		return
	}
	e, err := s.subjects.Erase(r.Context(), id, metadata(r))
	body := genapi.Erasure{SubjectID: id, Accounts: e.Accounts, Position: e.Position, PlainTextRemains: e.PlainText}
	if body.Accounts == nil {
		body.Accounts = []uuid.UUID{}
	}
	s.reply(w, r, http.StatusOK, &body, err)
}

// erased reports whether an account's subject was erased: no other account has an empty owner.
func erased(owner string) bool { return owner == "" }
