package merkle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"passbook/internal/eventstore"
)

// Rows are events in order of their positions. A caller may read them several times.
type Rows = iter.Seq2[*eventstore.Event, error]

// Leaves returns the stored leaf hashes of positions in ascending order: a hash for each call, until ok is false.
type Leaves func() (next func() (h tlog.Hash, ok bool, err error), err error)

// Named is a checkpoint and where it is from.
type Named struct {
	From string
	Checkpoint
}

// Finding is something that is wrong.
type Finding struct {
	// Position is the first position that is wrong, or 0.
	Position int64  `json:"position"`
	Problem  string `json:"problem"` // changed, moved, missing, cut off, twice, checkpoint or hashes
	Detail   string `json:"detail"`
}

// maxFindings is how many findings a Report has at most, and how many changed events are compared with each other.
const maxFindings = 100

// Report is the result of an audit.
type Report struct {
	OK bool `json:"ok"`
	// Events is the position of the last event that was read, and Signed how many of the events a checkpoint confirms.
	Events int64 `json:"events"`
	Signed int64 `json:"signed"`
	// Checkpoints is how many were compared.
	Checkpoints int `json:"checkpoints"`
	// Later is how many were not, because the copy is only of the beginning of the log and they have more events.
	Later    int       `json:"later_checkpoints"`
	Wrong    int64     `json:"wrong"` // all findings; Findings has the first of them
	Findings []Finding `json:"findings"`
}

func (r *Report) add(position int64, problem, format string, args ...any) {
	r.Wrong++
	if len(r.Findings) < maxFindings {
		r.Findings = append(r.Findings, Finding{position, problem, fmt.Sprintf(format, args...)})
	}
}

// Audit computes the tree of the events, and compares it with checkpoints whose signatures were checked.
//
// Checkpoints alone tell only between which sizes the log differs. Leaves tell at which positions, if their own tree has the
// hashes of the checkpoints. They may be nil.
func Audit(rows Rows, leaves Leaves, checkpoints []Named) (Report, error) {
	checkpoints = slices.Clone(checkpoints)
	slices.SortStableFunc(checkpoints, func(a, b Named) int { return cmp.Compare(a.Size, b.Size) })
	a := &auditor{checkpoints: checkpoints}
	if leaves != nil {
		err := a.withLeaves(rows, leaves)
		if !errors.Is(err, errUntrusted) {
			return a.done(), err
		}
		a = &auditor{checkpoints: checkpoints}
	}
	err := a.auditWithoutLeaves(rows)
	if leaves != nil {
		a.report.add(0, "hashes", "the stored hashes are not those of the checkpoints; the log itself was checked without them")
	}
	return a.done(), err
}

// auditor is one pass over the events.
type auditor struct {
	checkpoints []Named // those that are not compared yet
	tree        peaks
	report      Report
	changed     []changed
}

// changed is an event that is not the one that was signed at its position.
type changed struct {
	event          eventstore.Event
	signed, before tlog.Hash // the leaf hashes of the position and of the one before it
}

func (a *auditor) done() Report {
	a.report.OK = a.report.Wrong == 0
	if a.report.Findings == nil {
		a.report.Findings = []Finding{}
	}
	slices.SortStableFunc(a.report.Findings, func(x, y Finding) int { return cmp.Compare(x.Position, y.Position) })
	return a.report
}

// compare compares the checkpoints of the tree's size. It returns the first that differs, or nil.
func (a *auditor) compare() *Named {
	for len(a.checkpoints) > 0 && a.checkpoints[0].Size <= a.tree.size {
		c := &a.checkpoints[0]
		if c.Root != a.tree.root() {
			return c
		}
		a.report.Signed = c.Size
		a.report.Checkpoints++
		a.checkpoints = a.checkpoints[1:]
	}
	return nil
}

// cutOff reports the checkpoints that have more events than there are.
func (a *auditor) cutOff() {
	if n := len(a.checkpoints); n > 0 && a.checkpoints[n-1].Size > a.report.Events {
		c := &a.checkpoints[n-1]
		a.report.add(a.report.Events+1, "cut off", "the log ends at position %d, and %s was signed with %d events: positions %d to %d are missing",
			a.report.Events, c.From, c.Size, a.report.Events+1, c.Size)
	}
}

// follows checks that the position of an event is the next one. It returns false for one that was there before.
func (a *auditor) follows(e *eventstore.Event) bool {
	switch want := a.report.Events + 1; {
	case e.Position < want:
		a.report.add(e.Position, "twice", "position %d is there more than once", e.Position)
		return false
	case e.Position == want+1:
		a.report.add(want, "missing", "position %d is missing", want)
	case e.Position > want:
		a.report.add(want, "missing", "positions %d to %d are missing", want, e.Position-1)
	}
	a.report.Events = e.Position
	return true
}

// auditWithoutLeaves computes every leaf from the events, each from the one before. So it can tell nothing about the events after the first
// that is wrong.
func (a *auditor) auditWithoutLeaves(rows Rows) error {
	var buffer []byte
	var previous tlog.Hash
	broken := false
	for e, err := range rows {
		if err != nil {
			return err
		}
		if !a.follows(e) || broken {
			continue
		}
		if a.report.Wrong > 0 {
			broken = true
			continue
		}
		previous = leaf(&buffer, e, previous)
		a.tree.add(previous)
		if c := a.compare(); c != nil {
			broken = true
			from := a.report.Signed + 1
			a.report.add(from, "changed", "%s, of %d events, has another hash: the first event that is not the one that was signed "+
				"is between positions %d and %d", c.From, c.Size, from, c.Size)
		}
	}
	if !broken {
		a.cutOff()
	}
	return nil
}

// errUntrusted means that the stored leaf hashes are not those of a checkpoint.
var errUntrusted = errors.New("the stored hashes are not those of a checkpoint")

// stored walks along the stored leaf hashes.
type stored struct {
	*auditor
	next           func() (h tlog.Hash, ok bool, err error)
	most           int64     // the size of the largest checkpoint: nothing confirms what is stored after it
	before, signed tlog.Hash // the leaf hashes at positions size - 1 and size
}

// readTo reads leaf hashes up to a position. ok is false if there are not so many.
func (s *stored) readTo(position int64) (ok bool, err error) {
	for s.tree.size < position {
		if s.tree.size == s.most {
			return false, nil
		}
		h, ok, err := s.next()
		if !ok || err != nil {
			return false, err
		}
		s.before, s.signed = s.signed, h
		s.tree.add(h)
		if s.compare() != nil {
			return false, errUntrusted
		}
	}
	return true, nil
}

// withLeaves compares each event with its stored leaf hash, and the tree of those with the checkpoints. It returns errUntrusted if a
// checkpoint contradicts the stored hashes, or none confirms all of them: then its findings mean nothing.
func (a *auditor) withLeaves(rows Rows, leaves Leaves) error {
	next, err := leaves()
	if err != nil {
		return err
	}
	s := &stored{auditor: a, next: next}
	for i := range a.checkpoints {
		s.most = max(s.most, a.checkpoints[i].Size)
	}
	var buffer []byte
	for e, err := range rows {
		if err != nil {
			return err
		}
		if !a.follows(e) {
			continue
		}
		ok, err := s.readTo(e.Position)
		if err != nil {
			return err
		}
		if ok && leaf(&buffer, e, s.before) != s.signed {
			a.differs(e, s.before, s.signed)
		}
	}
	if _, err := s.readTo(s.most); err != nil { // the hashes of events that are no longer there
		return err
	}
	if a.report.Signed != a.tree.size || (len(a.checkpoints) > 0 && a.checkpoints[0].Size <= a.report.Events) {
		return errUntrusted
	}
	a.tellMoved()
	if len(a.checkpoints) > 0 {
		a.cutOff()
	} else if a.tree.size > a.report.Events {
		a.report.add(a.report.Events+1, "cut off", "the log ends at position %d, and %d events were signed: positions %d to %d are missing",
			a.report.Events, a.tree.size, a.report.Events+1, a.tree.size)
	}
	return nil
}

// differs notes an event that is not the one that was signed at its position.
func (a *auditor) differs(e *eventstore.Event, before, signed tlog.Hash) {
	if len(a.changed) == maxFindings {
		a.report.Wrong++
		return
	}
	kept := *e
	kept.Payload, kept.Metadata = slices.Clone(e.Payload), slices.Clone(e.Metadata)
	a.changed = append(a.changed, changed{kept, signed, before})
}

// tellMoved tells events that were signed at another position from those that were never signed.
func (a *auditor) tellMoved() {
	var buffer []byte
	for _, here := range a.changed {
		at := here.event.Position
		from := int64(0)
		for _, there := range a.changed {
			moved := here.event
			moved.Position = there.event.Position
			if leaf(&buffer, &moved, there.before) == there.signed {
				from = there.event.Position
			}
		}
		if from != 0 {
			a.report.add(at, "moved", "position %d has the event that was signed at position %d", at, from)
		} else {
			a.report.add(at, "changed", "the event at position %d is not the one that was signed", at)
		}
	}
}

// peaks are the hashes of the complete subtrees that make up a tree, from the largest to the smallest. It is all of a tree that is
// needed to add to it.
type peaks struct {
	size   int64
	hashes []tlog.Hash
}

func (p *peaks) add(h tlog.Hash) {
	p.hashes = append(p.hashes, h)
	for n := p.size; n&1 == 1; n >>= 1 { // each level that is complete now
		last := len(p.hashes) - 1
		p.hashes = append(p.hashes[:last-1], tlog.NodeHash(p.hashes[last-1], p.hashes[last]))
	}
	p.size++
}

// root returns the hash of the tree, which has at least one leaf.
func (p *peaks) root() tlog.Hash {
	last := len(p.hashes) - 1
	root := p.hashes[last]
	for i := last - 1; i >= 0; i-- {
		root = tlog.NodeHash(p.hashes[i], root)
	}
	return root
}

// Signed is a signed checkpoint and where it is from.
type Signed struct {
	From string
	Note []byte
}

// Check audits a copy of the log: its events against its own checkpoint and against others, which open checks and parses.
func Check(ctx context.Context, copied Source, open func(signed []byte) (Checkpoint, error), others []Signed) (Report, error) {
	own, leaves, err := copied.Stored(ctx)
	if err != nil {
		return Report{}, err
	}
	if own != "" {
		others = append(slices.Clone(others), Signed{"the checkpoint of the copy", []byte(own)})
	}
	end := int64(math.MaxInt64)
	if j, ok := copied.(Joined); ok {
		if end, err = j.end(); err != nil {
			return Report{}, err
		}
	}
	var checkpoints []Named
	var refused Report
	for _, signed := range others {
		c, err := open(signed.Note)
		if err != nil {
			refused.add(0, "checkpoint", "%s is not accepted: %v", signed.From, err)
			continue
		}
		if c.Size > end {
			refused.Later++
			continue
		}
		checkpoints = append(checkpoints, Named{signed.From, c})
	}
	if len(others) == 0 {
		refused.add(0, "checkpoint", "the copy has no checkpoint, and none was given: there is nothing to compare it with")
	} else if len(checkpoints) == 0 && refused.Wrong == 0 {
		refused.add(0, "checkpoint", "the copy ends at position %d, before all checkpoints: there is nothing to compare it with", end)
	}
	report, err := Audit(copied.Rows(ctx, 0), leaves, checkpoints)
	report.Wrong += refused.Wrong
	report.Later = refused.Later
	report.Findings = append(refused.Findings, report.Findings...)
	report.OK = report.Wrong == 0
	return report, err
}
