package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const tiny = "test/mutate/testdata/tiny"

// tryTiny runs the mutants of the package tiny, with a list of equivalents.
func tryTiny(t *testing.T, list string, change func(*options)) (survived int, out string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "list.txt")
	require.NoError(t, os.WriteFile(file, []byte(list), 0o644))
	o := options{root: root, targets: []target{{tiny, always, []string{tiny}}}, list: file, workers: 2, budget: time.Minute, verbose: true, seed: 1}
	if change != nil {
		change(&o)
	}
	var text strings.Builder
	survived, err = run(o, &text)
	require.NoError(t, err)
	return survived, text.String()
}

// What survives is what the tests of tiny leave open.
func TestTinyHasItsKnownSurvivors(t *testing.T) {
	const equal = tiny + "/tiny.go | Sort | boundary | if «a > b» { // equal numbers look the same in any order\n"
	survived, out := tryTiny(t, "# a comment\n\n"+equal+tiny+"/tiny.go | Gone | negate | «x» // it was removed\n", nil)
	var alive []string
	for _, m := range regexp.MustCompile(`(?m)^ALIVE .*\n +\S+ \| (.*)$`).FindAllStringSubmatch(out, -1) {
		alive = append(alive, m[1])
	}
	require.ElementsMatch(t, []string{
		"Fee | boundary | if «age < 6» {",
		"Fee | constant+1 | if age < «6» {",
		"Fee | constant-1 | if age < «6» {",
		"Fee | constant+1 | fee = «3»",
		"Fee | constant-1 | fee = «3»",
		"Fee | remove | «fee = 3»",
	}, alive, out)
	require.Contains(t, out, "STALE   line 4")
	require.Equal(t, 7, survived, "six of Fee, and the line that names no mutant")
	for _, caught := range []string{
		`\(min\(low, min\(n, high\)\)\) by TestClamp`,
		`\(max\(n, high\)\) by TestClamp`,
		`\(return \*new\(int\)\) by TestClamp`,
		`\(\(age < 18\) && \(k == "stranger"\)\) by TestAllowed`,
		`\(age <= 18\) by TestAllowed`,
		`\(age >= 18\) by TestAllowed`,
		`\(k != "stranger"\) by TestAllowed`,
		`\(19\) by TestAllowed`,
		`\(\(17\)\) by TestAllowed`,
		`\(return !\(false\)\) by TestAllowed`,
		`\(return !\(true\)\) by TestAllowed`,
		`\(a <= b\) by TestSort`,
		`\(removed\) by TestSort`,
		`\(Kind\("\\x00"\)\) by TestName`,
		`\(return \*new\(string\)\) by TestName`,
		`\(n >= 0\) by TestCountdown`,
		`\(removed\) by time limit`,
		`\(removed\) by TestCountdown`,
	} {
		require.Regexp(t, `(?m)^caught  `+tiny+`/tiny.go:\d+ `+caught, out)
	}
	require.Regexp(t, `(?m)^`+tiny+`/tiny.go +\d+ +\d+ +\d+ +1 +6$`, out)
}

func TestSamplesAndFiles(t *testing.T) {
	_, out := tryTiny(t, "", func(o *options) { o.only = true })
	all := strings.Count(out, " | ") / 3
	require.Greater(t, all, 30)
	_, out = tryTiny(t, "", func(o *options) { o.only, o.number = true, 5 })
	require.Equal(t, 5, strings.Count(out, " | ")/3)
	_, again := tryTiny(t, "", func(o *options) { o.only, o.number = true, 5 })
	require.Equal(t, out, again, "one seed draws one sample")
	_, out = tryTiny(t, "", func(o *options) { o.only, o.file = true, "./"+tiny+"/tiny.go" })
	require.Equal(t, all, strings.Count(out, " | ")/3)
	_, out = tryTiny(t, "", func(o *options) { o.only, o.file = true, "other.go" })
	require.Zero(t, strings.Count(out, " | "))
}

func TestLinesOfTheList(t *testing.T) {
	for list, want := range map[string]string{
		"a.go | f | negate | «x»\n":                                              "list.txt:1: a line is",
		"# one\na.go | f | «x» // why\n":                                         "list.txt:2: a line is",
		"a.go | f | negate | «x» // why\na.go | f | negate | «x» // once more\n": "list.txt:2: it repeats line 1",
	} {
		file := filepath.Join(t.TempDir(), "list.txt")
		require.NoError(t, os.WriteFile(file, []byte(list), 0o644))
		_, err := readEquivalents(file)
		require.ErrorContains(t, err, want)
	}
	_, err := readEquivalents("equivalents.txt")
	require.NoError(t, err)
}

// A pattern chooses among the printed lines. Quick tests draw nothing.
func TestMatchChoosesByTheLine(t *testing.T) {
	_, out := tryTiny(t, "", func(o *options) { o.match, o.quick = regexp.MustCompile(`Fee \| boundary`), true })
	require.Equal(t, 1, strings.Count(out, "ALIVE "), out)
	require.NotContains(t, out, "\ncaught ")
	require.NotContains(t, out, "tests with "+more)
}
