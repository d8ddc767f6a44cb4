package localpg

import (
	"fmt"
	"os"
	"strings"
)

// environment is all that initdb and postgres are given: what is in the environment of the service, secrets
// among it, is none of theirs, and PGDATA, PGPORT and LC_* would change what they do.
func environment(binDir string) []string {
	return []string{"LC_ALL=C", "TZ=UTC", "PATH=" + binDir + ":/usr/local/bin:/usr/bin:/bin"}
}

// forgetClientSettings takes the variables of PostgreSQL's clients out of the environment of this process: PGHOST,
// PGOPTIONS, PGSERVICE, PGTZ and so on. The driver adds them to every URL, and what they say of some other database must
// not become of the private one. PG_BIN is Passbook's own.
func forgetClientSettings() error {
	for _, variable := range os.Environ() { //nolint:forbidigo // not read, but forgotten
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
