package projector

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Sums is the fold of a projection made with DefineSums: it adds up a batch by key, and Flush adds the sums to the table.
type Sums[R comparable] struct {
	columns *sumColumns
	rows    map[R][]big.Int // the sums by key, which is the row with its sums set to zero
}

// Add adds the sums of a row, which may be negative, to those of its key.
func (s *Sums[R]) Add(row R) {
	fields := reflect.ValueOf(&row).Elem()
	var added []int64
	for _, c := range s.columns.sums {
		added = append(added, fields.Field(c.field).Int())
		fields.Field(c.field).SetZero()
	}
	sums, ok := s.rows[row]
	if !ok {
		sums = make([]big.Int, len(added))
		s.rows[row] = sums
	}
	for i, n := range added {
		sums[i].Add(&sums[i], big.NewInt(n))
	}
}

// Rows implements Sized.
func (s *Sums[R]) Rows() int { return len(s.rows) }

// Flush implements Fold.
func (s *Sums[R]) Flush(ctx context.Context, tx pgx.Tx, generation int64) error {
	if len(s.rows) == 0 {
		return nil
	}
	rows := make([]map[string]any, 0, len(s.rows))
	for row, sums := range s.rows {
		columns, fields := make(map[string]any), reflect.ValueOf(row)
		for _, c := range s.columns.keys {
			columns[c.name] = fields.Field(c.field).Interface()
		}
		for i, c := range s.columns.sums {
			columns[c.name] = json.Number(sums[i].String())
		}
		rows = append(rows, columns)
	}
	encoded, err := json.Marshal(rows)
	if err == nil {
		_, err = tx.Exec(ctx, s.columns.addSQL, generation, encoded)
	}
	if err != nil {
		return fmt.Errorf("sums: %w", err)
	}
	return nil
}

// DefineSums makes a Projection that counts or sums by key. Its table has the column generation and one for each field of R. A field
// is either a part of the key, tagged `key:"column"`, or an int64 that is added up, tagged `sum:"column"`:
//
//	type depositsOfDay struct {
//		Currency string    `key:"currency"`
//		Day      time.Time `key:"day"`
//		Deposits int64     `sum:"deposits"`
//		Amount   int64     `sum:"amount"`
//	}
//
// The table's primary key is generation and the key. Handlers, added with On, take a *Sums[R]. A sum that may exceed an int64 needs a
// column of type numeric.
func DefineSums[R comparable](id string, version int, table string) *Projection {
	p := define(id, version)
	columns := p.columnsOf(reflect.TypeFor[R](), table)
	p.Tables = []string{table}
	p.newFold = func() any { return &Sums[R]{columns: columns, rows: make(map[R][]big.Int)} }
	return p
}

// sumColumns are the columns of a table, with the fields of the struct that they come from.
type sumColumns struct {
	keys, sums []sumColumn
	addSQL     string
}

type sumColumn struct {
	name  string
	field int
}

func (p *Projection) columnsOf(row reflect.Type, table string) *sumColumns {
	if row.Kind() != reflect.Struct {
		p.refuse("a row is a struct, and not a %v", row)
	}
	c := new(sumColumns)
	seen := make(map[string]bool)
	for field := range row.NumField() {
		f := row.Field(field)
		key, isKey := f.Tag.Lookup("key")
		sum, isSum := f.Tag.Lookup("sum")
		name := key + sum
		switch {
		case isKey == isSum || name == "":
			p.refuse(`the field %s of %v is neither key:"column" nor sum:"column"`, f.Name, row)
		case !f.IsExported():
			p.refuse("the field %s of %v is not exported", f.Name, row)
		case isSum && f.Type.Kind() != reflect.Int64:
			p.refuse("the field %s of %v is a sum, and so an int64, and not a %v", f.Name, row, f.Type)
		case seen[name] || name == "generation":
			p.refuse("the column %s of the field %s of %v is taken", name, f.Name, row)
		case isKey:
			c.keys = append(c.keys, sumColumn{name, field})
		default:
			c.sums = append(c.sums, sumColumn{name, field})
		}
		seen[name] = true
	}
	if len(c.keys) == 0 || len(c.sums) == 0 {
		p.refuse("%v has no key, or nothing to sum", row)
	}
	c.addSQL = addSumsSQL(table, c)
	return c
}

// addSumsSQL returns the statement that adds rows, passed as JSON so that the table determines the types. It first adds up rows whose
// keys are equal in the table's types: two times of one day may be the same date.
func addSumsSQL(table string, c *sumColumns) string {
	var keys, sums, sets []string
	for _, k := range c.keys {
		keys = append(keys, pgx.Identifier{k.name}.Sanitize())
	}
	for _, s := range c.sums {
		name := pgx.Identifier{s.name}.Sanitize()
		sums = append(sums, name)
		sets = append(sets, fmt.Sprintf("%[1]s = t.%[1]s + excluded.%[1]s", name))
	}
	name, by := pgx.Identifier{table}.Sanitize(), strings.Join(keys, ", ")
	return fmt.Sprintf(`insert into %[1]s as t (generation, %[2]s, %[3]s)
select $1::bigint, %[2]s, %[4]s from jsonb_populate_recordset(null::%[1]s, $2) group by %[2]s order by %[2]s
on conflict (generation, %[2]s) do update set %[5]s`,
		name, by, strings.Join(sums, ", "), "sum("+strings.Join(sums, "), sum(")+")", strings.Join(sets, ", "))
}
