package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/preset"
)

// call runs the command and returns what it exits with and prints.
func call(args ...string) (code int, stdout, stderr string) {
	var out, wrong strings.Builder
	code = run(args, &out, &wrong)
	return code, out.String(), wrong.String()
}

// write puts a file into a fresh folder and returns its name.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

const passing = `version 1
policy respondio idle.after=10m
login alice/tab1
expect alice online since=09:00
+2m    claim alice busy
+10m   expect alice offline cause=idle since=09:12 masked=busy
`

const failing = passing + "       expect alice busy  # not before she returns\n"

func TestSimulate(t *testing.T) {
	good, bad := write(t, "good.txt", passing), write(t, "bad.txt", failing)
	for _, mode := range [][]string{{"simulate"}, {"simulate", "-live"}} {
		code, out, wrong := call(append(mode, good)...)
		require.Equal(t, exitFine, code, wrong)
		require.Equal(t, "ok  "+good+"  2 expectations\n", out)
		require.Empty(t, wrong)

		code, out, wrong = call(append(mode, good, bad, good)...)
		require.Equal(t, exitFailed, code)
		require.Equal(t, "ok  "+good+"  2 expectations\n", out, "it goes on no further")
		require.Equal(t, "presencectl: "+bad+":7: wanted alice busy, got alice offline\n", wrong)
	}
}

func TestSimulateFaults(t *testing.T) {
	for name, text := range map[string]struct{ text, want string }{
		"verb":        {"version 1\nclam alice busy\n", `:2: unknown verb "clam"`},
		"status":      {"version 1\nexpect alice lunch\n", `:2: expect: there is no status "lunch"`},
		"policy":      {"version 1\npolicy nosuch\n", `:2: there is no policy "nosuch"`},
		"unsupported": {"version 1\nclock +5m\n", `:2: not supported yet: a clock`},
		"version":     {"version 2\n", "version 2 cannot be read"},
	} {
		code, out, wrong := call("simulate", write(t, "x.txt", text.text))
		require.Equal(t, exitWrong, code, name)
		require.Empty(t, out, name)
		require.Contains(t, wrong, text.want, name)
	}
	code, _, wrong := call("simulate", filepath.Join(t.TempDir(), "none.txt"))
	require.Equal(t, exitWrong, code)
	require.Contains(t, wrong, "none.txt")
}

func TestSimulateDraws(t *testing.T) {
	good, bad := write(t, "good.txt", passing), write(t, "bad.txt", failing)
	out := filepath.Join(t.TempDir(), "out.svg")
	code, _, wrong := call("simulate", "-svg", out, good, bad)
	require.Equal(t, exitFailed, code)
	require.Contains(t, wrong, "wanted alice busy")
	drawing, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Contains(t, string(drawing), good)
	require.Contains(t, string(drawing), bad, "the file that failed is drawn up to there")

	code, _, wrong = call("simulate", "-svg", filepath.Join(out, "nowhere.svg"), good)
	require.Equal(t, exitWrong, code)
	require.Contains(t, wrong, "nowhere.svg")
}

func TestPolicy(t *testing.T) {
	code, out, wrong := call("policy")
	require.Equal(t, exitFine, code, wrong)
	require.Equal(t, preset.Names(), strings.Fields(out))

	for _, name := range preset.Names() {
		code, out, wrong = call("policy", name)
		require.Equal(t, exitFine, code, wrong)
		p, _, err := preset.Parse([]byte(out))
		require.NoError(t, err, name)
		require.Equal(t, name, p.Name)
	}

	// What is printed is a file that prints the same.
	file := write(t, "again.json", out)
	code, again, wrong := call("policy", file)
	require.Equal(t, exitFine, code, wrong)
	require.Equal(t, out, again)

	file = write(t, "lunch.json", `{"version": 1, "extends": "respondio", "grace": {"close": "90s"}}`)
	code, out, wrong = call("policy", file)
	require.Equal(t, exitFine, code, wrong)
	require.Contains(t, out, `"close": "1m30s"`)
	require.Contains(t, out, `"busy"`, "what is extended is printed too")

	code, out, wrong = call("policy", write(t, "new.json", `{"version": 1.5, "extends": "respondio", "moon": "full"}`))
	require.Equal(t, exitFine, code)
	require.NotEmpty(t, out)
	require.Contains(t, wrong, "unknown key moon is ignored")
}

func TestPolicyFaults(t *testing.T) {
	for name, args := range map[string]struct {
		arg, want string
	}{
		"name":    {"nosuch", "want one of chatwoot, default"},
		"missing": {filepath.Join(t.TempDir(), "none.json"), "none.json"},
		"policy":  {write(t, "bad.json", `{"version": 1, "extends": "respondio", "default": "lunch"}`), `"lunch" is not a status`},
		"extends": {write(t, "base.json", `{"version": 1, "extends": "lunch"}`), `extends: there is no policy "lunch"; want one of chatwoot, default`},
		"key":     {write(t, "key.json", `{"version": 1, "extends": "respondio", "grace": {"closed": "5s"}}`), `grace.closed: unknown key, allowed: logout, close, loss`},
	} {
		code, out, wrong := call("policy", args.arg)
		require.Equal(t, exitWrong, code, name)
		require.Empty(t, out, name)
		require.Contains(t, wrong, args.want, name)
	}
}

func TestUsage(t *testing.T) {
	code, out, wrong := call("grammar")
	require.Equal(t, exitFine, code, wrong)
	require.Contains(t, out, "claim S STATUS")

	code, out, _ = call("help")
	require.Equal(t, exitFine, code)
	require.Equal(t, usage, out)
	code, out, _ = call("simulate", "-h")
	require.Equal(t, exitFine, code)
	require.Equal(t, usage, out)

	for _, args := range [][]string{{}, {"simulat"}, {"simulate"}, {"simulate", "-fast", "x.txt"}, {"policy", "default", "tawkto"}, {"grammar", "all"}} {
		code, out, wrong := call(args...)
		require.Equal(t, exitWrong, code, args)
		require.Empty(t, out, args)
		require.NotEmpty(t, wrong, args)
	}
}
