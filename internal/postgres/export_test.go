package postgres

import (
	"context"
	"database/sql"
	"io/fs"
	"log/slog"
)

// Parts of the package that its tests look at.
const ReadSchema = readSchema

var CompareSchema = compareSchema

// MigrateFiles is Migrate with other migrations, whose schema is not checked.
func MigrateFiles(ctx context.Context, url string, files fs.FS, log *slog.Logger) error {
	return migrate(ctx, url, files, log, func(*sql.DB) error { return nil })
}
