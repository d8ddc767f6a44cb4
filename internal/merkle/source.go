package merkle

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/tlog"

	"passbook/internal/eventstore"
)

// Source is a copy of the log to audit.
type Source interface {
	// Rows returns the events after a position.
	Rows(ctx context.Context, after int64) Rows
	// Stored returns the stored checkpoint and the stored leaf hashes, or nothing if nothing was signed.
	Stored(ctx context.Context) (signed string, leaves Leaves, err error)
}

// Joined is a copy of the beginning of the log, and one of the rest. Without Rest, later checkpoints cannot be compared.
type Joined struct {
	Beginning Rows
	Rest      Source
}

// Rows implements Source.
func (j Joined) Rows(ctx context.Context, after int64) Rows {
	return func(yield func(*eventstore.Event, error) bool) {
		last := after
		for e, err := range j.Beginning {
			if err == nil && e.Position <= after {
				continue
			}
			if !yield(e, err) || err != nil {
				return
			}
			last = max(last, e.Position)
		}
		if j.Rest == nil {
			return
		}
		for e, err := range j.Rest.Rows(ctx, last) {
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Stored implements Source.
func (j Joined) Stored(ctx context.Context) (string, Leaves, error) {
	if j.Rest == nil {
		return "", nil, nil
	}
	return j.Rest.Stored(ctx)
}

// end returns the position where a copy ends that may lack the end of the log, or math.MaxInt64 for a whole one.
func (j Joined) end() (int64, error) {
	if j.Rest != nil {
		return math.MaxInt64, nil
	}
	last := int64(0)
	for e, err := range j.Beginning {
		if err != nil {
			return 0, err
		}
		last = max(last, e.Position)
	}
	return last, nil
}

// Database is the log in a database.
type Database struct{ Pool *pgxpool.Pool }

const (
	eventsPage = 5000
	tilesPage  = 64
)

// Rows implements Source.
func (d Database) Rows(ctx context.Context, after int64) Rows {
	log := eventstore.New(d.Pool)
	return func(yield func(*eventstore.Event, error) bool) {
		for after := after; ; {
			events, err := log.Select(ctx, after, math.MaxInt64, eventstore.Selection{}, eventsPage)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range events {
				if !yield(&events[i], nil) {
					return
				}
			}
			if len(events) == 0 {
				return
			}
			after = events[len(events)-1].Position
		}
	}
}

// Stored implements Source.
func (d Database) Stored(ctx context.Context) (string, Leaves, error) {
	s := store{d.Pool}
	signed, _, err := s.state(ctx)
	if err != nil || signed == "" {
		return "", nil, err
	}
	return signed, func() (func() (tlog.Hash, bool, error), error) {
		page, tile := []byte(nil), int64(0)
		return func() (h tlog.Hash, ok bool, err error) {
			if len(page) == 0 {
				if page, tile, err = s.leaves(ctx, tile); err != nil || len(page) == 0 {
					return h, false, err
				}
			}
			page = page[copy(h[:], page):]
			return h, true, nil
		}, nil
	}, nil
}

// leaves returns leaf hashes from a tile on, and the next tile.
func (s store) leaves(ctx context.Context, tile int64) (page []byte, next int64, err error) {
	rows, err := s.tileRows(ctx, leavesSQL, tile, tilesPage)
	for _, r := range rows {
		if r.Tile != tile || len(page)%(tileWidth*tlog.HashSize) != 0 {
			break // after a missing or partial one
		}
		page = append(page, r.Hashes...)
		tile++
	}
	return page, tile, err
}

// Dump is the log in a dump by pg_dump.
type Dump struct {
	// Tables are those that have data, or nil if that is not known.
	Tables []string
	// Open returns the dump as SQL text, which must have the data of the table as COPY.
	Open func(table string) (io.ReadCloser, error)
}

// partition matches the table of the events and its partitions, with the number of a partition.
var partition = regexp.MustCompile(`^events(?:_(\d+))?$`)

// partitions returns the tables that have the events, in order of their positions.
func (d Dump) partitions() ([]string, error) {
	tables := d.Tables
	if tables == nil {
		text, err := d.Open("events")
		if err != nil {
			return nil, err
		}
		defer func() { _ = text.Close() }()
		lines := bufio.NewReaderSize(text, 1<<20)
		for err == nil {
			var line []byte
			if line, err = lines.ReadBytes('\n'); err == nil {
				if found := copyStatement.FindSubmatch(line[:len(line)-1]); found != nil {
					tables = append(tables, string(found[1]))
				}
			}
		}
		if !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	numbers := make(map[string]int64)
	for _, table := range tables {
		if found := partition.FindStringSubmatch(table); found != nil {
			numbers[table], _ = strconv.ParseInt(found[1], 10, 64) // 0 for the table itself
		}
	}
	return slices.SortedFunc(maps.Keys(numbers), func(x, y string) int { return cmp.Compare(numbers[x], numbers[y]) }), nil
}

var eventColumns = []string{"position", "stream_id", "version", "event_id", "type", "schema_version", "payload", "metadata", "recorded_at"}

// Rows implements Source. A dump has rows as they lie in the table: in order, except those that were changed. So it is read twice, and
// the rows that are out of order are kept in memory.
func (d Dump) Rows(_ context.Context, after int64) Rows {
	return func(yield func(*eventstore.Event, error) bool) {
		var late []eventstore.Event
		highest, first := after, int64(0)
		err := d.table("log_begin", []string{"first_position"}, func(f []string) (err error) { // older dumps have none
			first, err = strconv.ParseInt(f[0], 10, 64)
			return err
		})
		if err == nil && after < first-1 {
			err = &eventstore.ArchivedError{First: first}
		}
		if err == nil {
			err = d.events(func(e *eventstore.Event) error {
				if e.Position <= highest && e.Position > after {
					late = append(late, *e)
				}
				highest = max(highest, e.Position)
				return nil
			})
		}
		if err != nil {
			yield(nil, err)
			return
		}
		slices.SortStableFunc(late, func(x, y eventstore.Event) int { return cmp.Compare(x.Position, y.Position) })
		highest = after
		err = d.events(func(e *eventstore.Event) error {
			if e.Position <= highest {
				return nil
			}
			highest = e.Position
			for len(late) > 0 && late[0].Position <= e.Position {
				if !yield(&late[0], nil) {
					return errStop
				}
				late = late[1:]
			}
			if !yield(e, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(nil, err)
		}
	}
}

// Stored implements Source. The leaf hashes are kept in memory.
func (d Dump) Stored(context.Context) (signed string, leaves Leaves, err error) {
	err = d.table("log_checkpoint", []string{"checkpoint"}, func(f []string) error {
		signed = f[0]
		return nil
	})
	if err != nil || signed == "" {
		return "", nil, err
	}
	tiles := make(map[int64][]byte)
	err = d.table("log_tiles", []string{"level", "tile", "hashes"}, func(f []string) error {
		if f[0] != "0" {
			return nil
		}
		tile, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return err
		}
		tiles[tile], err = hex.DecodeString(strings.TrimPrefix(f[2], `\x`))
		return err
	})
	return signed, func() (func() (tlog.Hash, bool, error), error) {
		size := int64(0)
		return func() (h tlog.Hash, ok bool, err error) {
			tile, at := tiles[size/tileWidth], int(size%tileWidth)*tlog.HashSize
			if len(tile) < at+tlog.HashSize {
				return h, false, nil
			}
			copy(h[:], tile[at:])
			size++
			return h, true, nil
		}, nil
	}, err
}

// errStop ends the reading of a table before its end.
var errStop = errors.New("enough")

// events calls each with the events as they come.
func (d Dump) events(each func(*eventstore.Event) error) error {
	types := pgtype.NewMap()
	tables, err := d.partitions()
	for _, table := range tables {
		if err == nil {
			err = d.table(table, eventColumns, func(f []string) error {
				e, err := parseEvent(types, f)
				if err != nil {
					return err
				}
				return each(&e)
			})
		}
	}
	return err
}

// parseEvent parses the values of eventColumns.
func parseEvent(types *pgtype.Map, f []string) (e eventstore.Event, err error) {
	var recorded pgtype.Timestamptz
	var schema int64
	position, err1 := strconv.ParseInt(f[0], 10, 64)
	stream, err2 := uuid.Parse(f[1])
	version, err3 := strconv.ParseInt(f[2], 10, 64)
	id, err4 := uuid.Parse(f[3])
	schema, err5 := strconv.ParseInt(f[5], 10, 32)
	err6 := types.Scan(pgtype.TimestamptzOID, pgtype.TextFormatCode, []byte(f[8]), &recorded)
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return e, fmt.Errorf("the event at position %s: %w", f[0], err)
	}
	if recorded.InfinityModifier != pgtype.Finite {
		recorded.Time = time.UnixMicro(math.MaxInt64) // no service writes it, so that any value is another one
	}
	return eventstore.Event{
		Position: position, StreamID: stream, Version: version, EventID: id, Type: f[4], SchemaVersion: int(schema),
		Payload: []byte(f[6]), Metadata: []byte(f[7]), RecordedAt: recorded.Time,
	}, nil
}

// copyStatement matches the line before the rows of a table.
var copyStatement = regexp.MustCompile(`^COPY (?:[^ (]+\.)?"?(\w+)"? \((.*)\) FROM stdin;$`)

// table calls each with the values of the columns of a table, row by row. A dump without the table has no rows.
func (d Dump) table(name string, columns []string, each func(values []string) error) (err error) {
	text, err := d.Open(name)
	if err != nil {
		return err
	}
	defer func() {
		if closed := text.Close(); err == nil { // after errStop the program was killed
			err = closed
		}
	}()
	lines := bufio.NewReaderSize(text, 1<<20)
	var places []int
	for number := 1; ; number++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if places != nil {
				return fmt.Errorf("the dump ends within the table %s", name)
			}
			return nil
		}
		if err != nil {
			return err
		}
		line = line[:len(line)-1]
		switch {
		case places == nil:
			if places, err = placesOf(line, name, columns); err != nil {
				return err
			}
		case string(line) == `\.`:
			return discard(lines)
		default:
			values, err := pick(line, places)
			if err == nil {
				err = each(values)
			}
			if err != nil {
				return fmt.Errorf("line %d of the dump: %w", number, err)
			}
		}
	}
}

// discard reads to the end, so that the program that writes can end.
func discard(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// placesOf returns where the columns are, if a line begins the rows of the table, and nil otherwise.
func placesOf(line []byte, table string, columns []string) ([]int, error) {
	found := copyStatement.FindSubmatch(line)
	if found == nil || string(found[1]) != table {
		return nil, nil
	}
	names := strings.Split(string(found[2]), ", ")
	places := make([]int, len(columns))
	for i, column := range columns {
		if places[i] = slices.IndexFunc(names, func(name string) bool { return strings.Trim(name, `"`) == column }); places[i] < 0 {
			return nil, fmt.Errorf("the table %s of the dump has no column %s", table, column)
		}
	}
	return places, nil
}

// pick returns values of a row in the text format of COPY.
func pick(line []byte, places []int) ([]string, error) {
	fields := bytes.Split(line, []byte("\t"))
	values := make([]string, len(places))
	for i, place := range places {
		if place >= len(fields) {
			return nil, errors.New("a row has too few columns")
		}
		values[i] = unescape(fields[place])
	}
	return values, nil
}

// escapes are the escapes that COPY writes, except the one of the backslash.
var escapes = map[byte]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}

func unescape(field []byte) string {
	if bytes.IndexByte(field, '\\') < 0 {
		return string(field)
	}
	text := make([]byte, 0, len(field))
	for i := 0; i < len(field); i++ {
		c := field[i]
		if c == '\\' && i+1 < len(field) {
			i++
			if c = field[i]; escapes[c] != 0 {
				c = escapes[c]
			}
		}
		text = append(text, c)
	}
	return string(text)
}
