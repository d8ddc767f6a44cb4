package merkle_test

import (
	"errors"
	"strings"
	"testing"

	"passbook/internal/eventstore"
	"passbook/internal/merkle"
)

// TestAnArchivedLogIsSigned signs on while the last signed event is still in the log, and halts when later ones are in the archive.
func TestAnArchivedLogIsSigned(t *testing.T) {
	t.Parallel()
	l := newLog(t, 300)
	l.sign()
	l.append(50)
	l.exec(`delete from events where position < 300; update log_begin set first_position = 300`)
	l.sign()
	l.append(50)
	l.exec(`delete from events where position < 380; update log_begin set first_position = 380`)
	err := merkle.NewSigner(l.config()).RunOnce(t.Context())
	halted, ok := errors.AsType[*merkle.HaltedError](err)
	if !ok || !strings.Contains(halted.Reason, "350 events are signed, and those up to position 379 are in the archive") {
		t.Errorf("%v", err)
	}
	for _, source := range []merkle.Source{l.dump(), merkle.Database{Pool: l.pool}} {
		_, err := merkle.Check(t.Context(), source, l.config().Keys.Open, nil)
		if archived, ok := errors.AsType[*eventstore.ArchivedError](err); !ok || archived.First != 380 {
			t.Errorf("audit: %v", err)
		}
	}
	if _, err := merkle.NewProver(l.pool).Inclusion(t.Context(), 5, 0); !errors.As(err, new(*eventstore.ArchivedError)) {
		t.Errorf("proof: %v", err)
	}
	if _, _, err := merkle.NewProver(l.pool).Consistency(t.Context(), 300, 350); err != nil {
		t.Errorf("proof: %v", err)
	}
}
