package merkle

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	stateSQL = `select coalesce((select checkpoint from log_checkpoint), ''),
       coalesce((select position from events order by position desc limit 1), 0)`

	tilesSQL = `select t.level, t.tile, t.hashes
from unnest($1::smallint[], $2::bigint[]) as wanted(level, tile) join log_tiles t using (level, tile)`

	leavesSQL = `select level, tile, hashes from log_tiles where level = 0 and tile >= $1 order by tile limit $2`

	// The row is locked first, so that of two signers one waits and then finds another checkpoint.
	firstSQL = `insert into log_checkpoint (checkpoint) values ($2) on conflict do nothing returning $1::text`
	moveSQL  = `update log_checkpoint set checkpoint = $2, signed_at = clock_timestamp() where checkpoint = $1 returning $1::text`

	storeSQL = `insert into log_tiles (level, tile, hashes) select * from unnest($1::smallint[], $2::bigint[], $3::bytea[])
on conflict (level, tile) do update set hashes = excluded.hashes`
)

const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

// errMoved means that another instance has signed a checkpoint in the meantime.
var errMoved = errors.New("another instance has signed a checkpoint")

// DamagedError means that the stored hashes are not those of the stored checkpoint.
type DamagedError struct{ Reason string }

func (e *DamagedError) Error() string { return "the stored hashes are damaged: " + e.Reason }

// store runs the SQL of the tree.
type store struct{ pool *pgxpool.Pool }

// state returns the stored checkpoint, which is empty before the first one, and the head of the log.
func (s store) state(ctx context.Context) (signed string, head int64, err error) {
	if err := s.pool.QueryRow(ctx, stateSQL).Scan(&signed, &head); err != nil {
		return "", 0, fmt.Errorf("merkle: read the checkpoint: %w", err)
	}
	return signed, head, nil
}

// move stores a checkpoint and the tiles that it adds, if the stored checkpoint is still before. Otherwise it returns errMoved.
func (s store) move(ctx context.Context, before string, signed []byte, tiles []tlog.Tile, hashes [][]byte) error {
	levels, numbers := split(tiles)
	sql := moveSQL
	if before == "" {
		sql = firstSQL
	}
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		var same string
		if err := tx.QueryRow(ctx, sql, before, string(signed)).Scan(&same); err != nil {
			return err
		}
		if len(tiles) == 0 {
			return nil
		}
		_, err := tx.Exec(ctx, storeSQL, levels, numbers, hashes)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return errMoved
	}
	if err != nil {
		return fmt.Errorf("merkle: store a checkpoint: %w", err)
	}
	return nil
}

func split(tiles []tlog.Tile) (levels []int16, numbers []int64) {
	for _, t := range tiles {
		levels, numbers = append(levels, int16(t.L)), append(numbers, t.N) //nolint:gosec // at most 8 levels
	}
	return levels, numbers
}

// tileRow is a row of log_tiles.
type tileRow struct {
	Level  int16
	Tile   int64
	Hashes []byte
}

func (s store) tileRows(ctx context.Context, sql string, args ...any) ([]tileRow, error) {
	rows, _ := s.pool.Query(ctx, sql, args...) // an error is in rows too
	tiles, err := pgx.CollectRows(rows, pgx.RowToStructByPos[tileRow])
	if err != nil {
		return nil, fmt.Errorf("merkle: read hashes: %w", err)
	}
	return tiles, nil
}

// tiles returns the data of tiles.
func (s store) tiles(ctx context.Context, tiles []tlog.Tile) ([][]byte, error) {
	levels, numbers := split(tiles)
	stored := make(map[[2]int64][]byte)
	rows, err := s.tileRows(ctx, tilesSQL, levels, numbers)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		stored[[2]int64{int64(r.Level), r.Tile}] = r.Hashes
	}
	data := make([][]byte, len(tiles))
	for i, t := range tiles {
		data[i] = stored[[2]int64{int64(t.L), t.N}]
		if len(data[i]) < t.W*tlog.HashSize {
			return nil, &DamagedError{fmt.Sprintf("tile %d of level %d has %d hashes instead of %d", t.N, t.L, len(data[i])/tlog.HashSize, t.W)}
		}
		data[i] = data[i][:t.W*tlog.HashSize] // it may have grown since
	}
	return data, nil
}

// reader returns what reads the stored hashes of a tree and checks them against its hash. It reads each tile once, and is for one use.
func (s store) reader(ctx context.Context, tree tlog.Tree) tlog.HashReader {
	cache := make(map[tlog.Tile][]byte)
	var failed error
	tiles := tlog.TileHashReader(tree, tileReader(func(tiles []tlog.Tile) (data [][]byte, err error) {
		var missing []tlog.Tile
		for _, t := range tiles {
			if cache[t] == nil {
				missing = append(missing, t)
			}
		}
		if len(missing) > 0 {
			read, err := s.tiles(ctx, missing)
			if err != nil {
				failed = err
				return nil, err
			}
			for i, t := range missing {
				cache[t] = read[i]
			}
		}
		data = make([][]byte, len(tiles))
		for i, t := range tiles {
			data[i] = cache[t]
		}
		return data, nil
	}))
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		if len(indexes) == 0 {
			return nil, nil
		}
		hashes, err := tiles.ReadHashes(indexes)
		if err != nil && failed == nil {
			failed = &DamagedError{err.Error()}
		}
		return hashes, failed
	})
}

// tileReader makes a function a tlog.TileReader.
type tileReader func(tiles []tlog.Tile) ([][]byte, error)

// Height implements tlog.TileReader.
func (tileReader) Height() int { return tileHeight }

// ReadTiles implements tlog.TileReader.
func (f tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) { return f(tiles) }

// SaveTiles implements tlog.TileReader.
func (tileReader) SaveTiles([]tlog.Tile, [][]byte) {}
