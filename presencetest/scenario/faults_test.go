package scenario_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// fault is a block of testdata/faults.txt.
type fault struct {
	id, title string
	mechanism string // "open" until the fault is mended
	tests     []string
}

const mended = root + "/testdata/faults.txt"

func readFaults(t *testing.T) (list []fault) {
	t.Helper()
	src, err := os.ReadFile(mended)
	require.NoError(t, err)
	for n, line := range strings.Split(string(src), "\n") {
		text := strings.TrimSpace(line)
		last := len(list) - 1
		switch {
		case text == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "plan text "): // the one name of two words
			list = append(list, fault{id: "plan text", title: strings.TrimPrefix(text, "plan text ")})
		case !strings.HasPrefix(line, " "):
			id, title, _ := strings.Cut(text, " ")
			list = append(list, fault{id: id, title: title})
		case strings.HasPrefix(text, "mechanism: "):
			list[last].mechanism = strings.TrimPrefix(text, "mechanism: ")
		case strings.HasPrefix(text, "tests:"):
			list[last].tests = strings.Fields(strings.TrimPrefix(text, "tests:"))
		default:
			require.Fail(t, "faults.txt", "line %d is none of FAULT TITLE, mechanism: and tests:", n+1)
		}
	}
	return list
}

// faultTable writes the table of the faults. Each test that it names exists: a Go
// test, a scenario file, or a file of the repository.
func faultTable(t *testing.T, tests map[string]string) string {
	t.Helper()
	var out strings.Builder
	out.WriteString(faultsHead)
	for _, f := range readFaults(t) {
		require.NotEmpty(t, f.title, "faults.txt: %s has no title", f.id)
		require.NotEmpty(t, f.mechanism, "faults.txt: %s has no mechanism", f.id)
		if f.mechanism == "open" {
			require.Empty(t, f.tests, "faults.txt: %s is open", f.id)
		} else {
			require.NotEmpty(t, f.tests, "faults.txt: %s has no test", f.id)
		}
		var proofs []string
		for _, name := range f.tests {
			switch {
			case tests[name] != "":
				proofs = append(proofs, fmt.Sprintf("`%s` in %s", name, filepath.ToSlash(tests[name])))
			case exists(filepath.Join(files, name)) || exists(filepath.Join(root, name)):
				proofs = append(proofs, name)
			default:
				require.Fail(t, "faults.txt", "%s names %s, which is no Go test, scenario or file", f.id, name)
			}
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s |\n", f.id, f.title, f.mechanism, strings.Join(proofs, ", "))
	}
	return out.String()
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

const faultsHead = `
## Faults

Faults that public reports of other products, and an independent model of this one, led to. Each is a kind, and its
mechanism holds for the whole kind. This table is generated from testdata/faults.txt by the same command.

| Fault | What it is | What holds now | Proven by |
| --- | --- | --- | --- |
`
