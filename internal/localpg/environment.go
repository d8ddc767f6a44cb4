package localpg

import (
	"fmt"
	"os"
	"strings"
)

// environment returns the whole environment of initdb and postgres: they must not see the service's, with its secrets,
// and PGDATA, PGPORT and LC_* would change what they do.
func environment(binDir string) []string {
	return []string{"LC_ALL=C", "TZ=UTC", "PATH=" + binDir + ":/usr/local/bin:/usr/bin:/bin"}
}

// forgetClientSettings removes the variables of PostgreSQL's clients from the environment of this process: PGHOST,
// PGOPTIONS, PGSERVICE, PGTZ and so on. The driver applies them to every URL, but they are meant for another database and
// not for the private one. PG_BIN is Passbook's own.
func forgetClientSettings() error {
	for _, variable := range os.Environ() { //nolint:forbidigo // to unset them, not to read them
		name, _, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "PG_") {
			continue
		}
		if err := os.Unsetenv(name); err != nil {
			return fmt.Errorf("forget %s: %w", name, err)
		}
	}
	return nil
}
