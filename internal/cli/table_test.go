package cli

import (
	"bytes"
	"testing"
)

func TestTable(t *testing.T) {
	t.Parallel()
	w := newTable("OWNER\t>BALANCE\tNOTE")
	w.add("Ada", "1.00", "")
	w.add("株式会社", "-1000.50", "wide")
	w.add("José", "0", "combining")
	var out bytes.Buffer
	if err := w.print(&out); err != nil {
		t.Fatal(err)
	}
	const want = `OWNER      BALANCE  NOTE
Ada           1.00
株式会社  -1000.50  wide
José             0  combining
`
	if out.String() != want {
		t.Errorf("%s", &out)
	}
}
