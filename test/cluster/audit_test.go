package main

import (
	"strings"
	"testing"

	"github.com/google/uuid"
)

// TestAuditOfReceipts restores a log of four events to its second, and appends another two.
func TestAuditOfReceipts(t *testing.T) {
	t.Parallel()
	ids := make([]uuid.UUID, 6)
	for i := range ids {
		ids[i] = uuid.New()
	}
	before, later, undone := ids[:2], ids[2:4], ids[4:]
	for name, test := range map[string]struct {
		log  []uuid.UUID
		want string // the start of the error
	}{
		"all are there":                   {log: []uuid.UUID{before[0], before[1], later[0], later[1]}},
		"one from before the backup lost": {log: []uuid.UUID{before[0], uuid.New(), later[0], later[1]}, want: "1 acknowledged deposits"},
		"one from after the restore lost": {log: []uuid.UUID{before[0], before[1], later[0]}, want: "1 acknowledged deposits"},
		"at another position":             {log: []uuid.UUID{before[0], before[1], later[1], later[0]}, want: "2 acknowledged deposits"},
		"one twice":                       {log: []uuid.UUID{before[0], before[1], later[0], later[1], later[1]}, want: "0 acknowledged deposits are not in the log at their position, 1 events"},
		"one that was undone is there":    {log: []uuid.UUID{before[0], before[1], later[0], later[1], undone[0]}, want: "the event " + undone[0].String()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLoad(nil, unlimited)
			for i, id := range before {
				l.acknowledged[id] = receipt{int64(i + 1), 0}
			}
			for i, id := range undone {
				l.acknowledged[id] = receipt{int64(i + 3), 0}
			}
			l.restored(2)
			for i, id := range later {
				l.acknowledged[id] = receipt{int64(i + 3), 1}
			}
			var out strings.Builder
			err := l.audit(test.log, &out)
			if (err == nil) != (test.want == "") || err != nil && !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("%v, want %q; %s", err, test.want, &out)
			}
			if !strings.Contains(out.String(), "2 of them undone by 1 restores") && test.log[len(test.log)-1] != undone[0] {
				t.Errorf("it printed %s", &out)
			}
		})
	}
}
