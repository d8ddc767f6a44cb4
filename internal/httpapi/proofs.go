package httpapi

import (
	"net/http"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"passbook/internal/httpapi/genapi"
)

// GetCheckpoint serves GET /log/checkpoint.
func (s *server) GetCheckpoint(w http.ResponseWriter, r *http.Request) {
	signed, size, err := s.proofs.Signed(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Passbook-Position", strconv.FormatInt(size, 10))
	write(w, http.StatusOK, "text/plain; charset=utf-8", []byte(signed))
}

// GetInclusionProof serves GET /log/proofs/inclusion.
func (s *server) GetInclusionProof(w http.ResponseWriter, r *http.Request, p genapi.GetInclusionProofParams) {
	in, err := s.proofs.Inclusion(r.Context(), p.Position, p.Size)
	readingOf(r).account(in.StreamID)
	s.reply(w, r, http.StatusOK, &genapi.InclusionProof{
		Position: p.Position, Size: in.Size, Record: in.Record, LeafHash: in.Leaf.String(), PreviousLeafHash: in.Previous.String(),
		Hashes: hashesOf(in.Hashes),
	}, err)
}

// GetConsistencyProof serves GET /log/proofs/consistency.
func (s *server) GetConsistencyProof(w http.ResponseWriter, r *http.Request, p genapi.GetConsistencyProofParams) {
	hashes, to, err := s.proofs.Consistency(r.Context(), p.From, p.To)
	s.reply(w, r, http.StatusOK, &genapi.ConsistencyProof{From: p.From, To: to, Hashes: hashesOf(hashes)}, err)
}

func hashesOf(hashes []tlog.Hash) []genapi.Hash {
	all := make([]genapi.Hash, len(hashes))
	for i, h := range hashes {
		all[i] = h.String()
	}
	return all
}
