package localpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

var (
	// ErrNotRunning means that no process runs the private PostgreSQL of a data directory.
	ErrNotRunning = errors.New("the private PostgreSQL is not running")
	// ErrNoData means that a directory holds no private PostgreSQL.
	ErrNoData = errors.New("there is no private PostgreSQL")
)

// Attach finds the private PostgreSQL that another process runs in a data directory, and returns its URL, to which this
// process may connect too. It changes nothing: if none is running it fails with ErrNotRunning or ErrNoData. Like Start it
// ignores the PG* variables. The server ends with the process that started it, even while others are connected.
func Attach(ctx context.Context, dir string) (string, error) {
	if err := forgetClientSettings(); err != nil {
		return "", fmt.Errorf("private PostgreSQL: %w", err)
	}
	path, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("private PostgreSQL: %w", err)
	}
	resolved, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w in %s", ErrNoData, path)
	}
	if err != nil {
		return "", fmt.Errorf("private PostgreSQL: %w", err)
	}
	clusters, err := (&dataDir{path: resolved}).otherMajors(0)
	if err != nil {
		return "", fmt.Errorf("private PostgreSQL: %w", err)
	}
	if len(clusters) == 0 {
		return "", fmt.Errorf("%w in %s", ErrNoData, path)
	}
	for _, cluster := range clusters {
		file, err := readPidFile(cluster)
		switch {
		case errors.Is(err, fs.ErrPermission):
			return "", fmt.Errorf("private PostgreSQL: %w: run as the user that runs the server", err)
		case err != nil || file.socketDir == "" || len(recordedPostmaster(cluster)) == 0:
			continue
		}
		location := urlOf(file.socketDir, ownerRole, databaseName)
		conn, err := pgx.Connect(ctx, location)
		if err != nil {
			return "", fmt.Errorf("private PostgreSQL in %s: %w", cluster, err)
		}
		return location, conn.Close(ctx)
	}
	return "", fmt.Errorf("%w in %s", ErrNotRunning, path)
}

func urlOf(socketDir, role, database string) string {
	query := url.Values{"host": {socketDir}, "port": {socketPort}, "user": {role}}
	return "postgres:///" + database + "?" + query.Encode()
}
