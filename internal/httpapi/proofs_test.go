package httpapi_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"passbook/internal/merkle"
)

const signedNote = "bank.example\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n— bank.example c2ln\n"

func (s *service) Signed(context.Context) (string, int64, error) {
	return signedNote, 7, s.proofErr
}

func (s *service) Inclusion(_ context.Context, position, size int64) (merkle.Inclusion, error) {
	if position > 7 || size > 7 {
		return merkle.Inclusion{}, merkle.ErrNotSigned
	}
	return merkle.Inclusion{Size: 7, StreamID: accountID, Record: []byte("record"), Leaf: tlog.Hash{1}, Hashes: tlog.RecordProof{{2}, {3}}}, s.proofErr
}

func (s *service) Consistency(_ context.Context, from, _ int64) (tlog.TreeProof, int64, error) {
	if from > 7 {
		return nil, 0, merkle.ErrNotSigned
	}
	return nil, 7, s.proofErr
}

// TestProofs has the responses of the signed tree; cmd/server checks real proofs.
func TestProofs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		path   string
		err    error
		status int
		want   string
	}{
		"checkpoint":              {"/log/checkpoint", nil, http.StatusOK, signedNote},
		"no checkpoint":           {"/log/checkpoint", merkle.ErrNoCheckpoint, http.StatusNotFound, `"no-checkpoint"`},
		"no database":             {"/log/checkpoint", errUnavailable, http.StatusServiceUnavailable, `"unavailable"`},
		"inclusion":               {"/log/proofs/inclusion?position=3&size=7", nil, http.StatusOK, `"record":"cmVjb3Jk"`},
		"inclusion in the latest": {"/log/proofs/inclusion?position=3", nil, http.StatusOK, `"size":7`},
		"inclusion, not yet":      {"/log/proofs/inclusion?position=8", nil, http.StatusNotFound, `"not-signed-yet"`},
		"inclusion of nothing":    {"/log/proofs/inclusion", nil, http.StatusBadRequest, `"invalid-parameter"`},
		"inclusion of position 0": {"/log/proofs/inclusion?position=0", nil, http.StatusBadRequest, `"invalid-parameter"`},
		"inclusion unsigned":      {"/log/proofs/inclusion?position=1", merkle.ErrNoCheckpoint, http.StatusNotFound, `"no-checkpoint"`},
		"damaged hashes":          {"/log/proofs/inclusion?position=1", &merkle.DamagedError{Reason: "secret"}, http.StatusInternalServerError, `"internal-error"`},
		"consistency":             {"/log/proofs/consistency?from=3", nil, http.StatusOK, `{"from":3,"hashes":[],"to":7}`},
		"consistency, not yet":    {"/log/proofs/consistency?from=8&to=9", nil, http.StatusNotFound, `"not-signed-yet"`},
		"consistency with size 0": {"/log/proofs/consistency?from=1&to=0", nil, http.StatusBadRequest, `"invalid-parameter"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := serve(t, &service{proofErr: test.err}).send(http.MethodGet, test.path, "")
			if got.status != test.status || !strings.Contains(strings.ReplaceAll(got.text, " ", ""), strings.ReplaceAll(test.want, " ", "")) {
				t.Errorf("%d %s, want %d with %s", got.status, got.text, test.status, test.want)
			}
		})
	}
}
