package postgres

// MigrateFiles is Migrate with other migrations.
var MigrateFiles = migrate

// ListedTables are the tables that the service has been given rights on.
func ListedTables() (names []string) {
	for _, g := range tableRights {
		names = append(names, g.table)
	}
	return names
}
