package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/cmd/presencectl/internal/load"
	"github.com/presence-go/presence/preset"
)

// call runs the command and returns its exit code and its output.
func call(args ...string) (code int, stdout, stderr string) {
	var out, wrong strings.Builder
	code = run(args, &out, &wrong)
	return code, out.String(), wrong.String()
}

// write writes a file in a fresh folder and returns its name.
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
		require.Equal(t, "ok  "+good+"  2 expectations\n", out, "it stops at the first failure")
		require.Equal(t, "presencectl: "+bad+":7: wanted alice busy, got alice offline\n", wrong)
	}
}

func TestSimulateFaults(t *testing.T) {
	for name, text := range map[string]struct{ text, want string }{
		"verb":        {"version 1\nclam alice busy\n", `:2: unknown verb "clam"`},
		"status":      {"version 1\nexpect alice lunch\n", `:2: expect: unknown status "lunch"`},
		"policy":      {"version 1\npolicy nosuch\n", `:2: unknown policy "nosuch"`},
		"unsupported": {"version 1\nclock +5m\n", `:2: not supported yet: a step`},
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

	// The output is a file with the same output.
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
		"name":    {"nosuch", `unknown preset "nosuch"; allowed: chatwoot, default`},
		"missing": {filepath.Join(t.TempDir(), "none.json"), "none.json"},
		"policy":  {write(t, "bad.json", `{"version": 1, "extends": "respondio", "default": "lunch"}`), `"lunch" is not a status`},
		"extends": {write(t, "base.json", `{"version": 1, "extends": "lunch"}`), `"extends": no policy is named "lunch"; want one of chatwoot, default`},
		"key":     {write(t, "key.json", `{"version": 1, "extends": "respondio", "grace": {"closed": "5s"}}`), `"grace.closed": unknown key; allowed: logout, close, loss`},
	} {
		code, out, wrong := call("policy", args.arg)
		require.Equal(t, exitWrong, code, name)
		require.Empty(t, out, name)
		require.Contains(t, wrong, args.want, name)
	}
}

func TestPolicyCheck(t *testing.T) {
	good := write(t, "good.json", `{"version": 1.5, "extends": "respondio", "moon": "full"}`)
	bad := write(t, "bad.json", `{"version": 1, "extends": "respondio", "default": "lunch"}`)
	code, out, wrong := call("policy", "-check", "slack", good)
	require.Equal(t, exitFine, code, wrong)
	require.Equal(t, "ok  slack\nok  "+good+"\n", out)
	require.Contains(t, wrong, "unknown key moon is ignored")

	code, out, wrong = call("policy", "-check", bad, "nosuch", "slack")
	require.Equal(t, exitWrong, code)
	require.Equal(t, "ok  slack\n", out)
	require.Contains(t, wrong, `"lunch" is not a status`)
	require.Contains(t, wrong, `unknown preset "nosuch"`, "all faults are printed together")
}

func TestPolicyDiff(t *testing.T) {
	mine := write(t, "mine.json", `{"version": 1, "extends": "slack", "name": "slack", "grace": {"close": "90s"}, "idle": [],
		"statuses": [{"id": "active", "class": "available"}, {"id": "dnd", "class": "dnd"}, {"id": "away", "label": "", "class": "away", "for": "5m"}]}`)
	code, out, wrong := call("policy", "-diff", "slack", mine)
	require.Equal(t, exitFailed, code, wrong)
	for _, line := range []string{
		"grace.close: 5s -> 1m30s\n", "idle: [0] -> []\n", "idle.0.after: 10m -> none\n",
		"statuses: [active,away,dnd] -> [active,dnd,away]\n", "statuses.active.label: Active -> none\n",
		"statuses.away.for: none -> 5m\n", "statuses.dnd.for: 1h -> none\n",
	} {
		require.Contains(t, out, line)
	}
	require.NotContains(t, out, "statuses.active.class")
	require.NotContains(t, out, "lease")
	require.Contains(t, wrong, fmt.Sprintf("the policies differ at %d paths", strings.Count(out, "\n")))

	for _, name := range preset.Names() {
		_, whole, _ := call("policy", name)
		code, out, wrong := call("policy", "-diff", name, write(t, "same.json", whole))
		require.Equal(t, exitFine, code, wrong)
		require.Empty(t, out)
	}
}

// H15: every command lists its flags, each with an explanation.
func TestHelp(t *testing.T) {
	_, all, _ := call("help")
	for _, c := range commands {
		require.Contains(t, all, c.synopsis()+"\n        "+c.about+"\n")
		for _, help := range []string{"-h", "-help", "--help"} {
			code, out, wrong := call(c.name, help)
			require.Equal(t, exitFine, code, c.name)
			require.Empty(t, wrong, c.name)
			require.Contains(t, out, "presencectl "+c.name, c.name)
			if c.prepare == nil {
				require.Equal(t, load.Usage, out)
				continue
			}
			flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
			c.prepare(flags)
			flags.VisitAll(func(f *flag.Flag) {
				require.NotEmpty(t, f.Usage, "%s -%s", c.name, f.Name)
				_, usage := flag.UnquoteUsage(f)
				require.Regexp(t, "(?m)^  -"+f.Name+"\\b", out)
				require.Contains(t, out, usage)
			})
			require.Contains(t, out, strings.ToUpper(c.about[:1])+c.about[1:])
		}
	}
}

func TestVersion(t *testing.T) {
	code, out, wrong := call("version")
	require.Equal(t, exitFine, code, wrong)
	require.Regexp(t, `^presencectl \S+`, out)

	setting := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: "vcs." + key, Value: value} }
	for want, info := range map[string]debug.BuildInfo{
		"(devel)": {},
		"v0.1.0":  {Main: debug.Module{Version: "v0.1.0"}, Settings: []debug.BuildSetting{{Key: "GOOS", Value: "linux"}}},
		"(devel) 1f664b4 2026-01-05T09:00:00Z modified": {
			Main:     debug.Module{Version: "(devel)"},
			Settings: []debug.BuildSetting{setting("modified", "true"), setting("time", "2026-01-05T09:00:00Z"), setting("revision", "1f664b4")},
		},
		"(devel) 1f664b4": {Settings: []debug.BuildSetting{setting("revision", "1f664b4"), setting("modified", "false")}},
	} {
		require.Equal(t, want, versionOf(&info))
	}
}

func TestUsage(t *testing.T) {
	code, out, wrong := call("grammar")
	require.Equal(t, exitFine, code, wrong)
	require.Contains(t, out, "claim S STATUS")

	for _, args := range [][]string{
		{}, {"simulat"}, {"simulate"}, {"simulate", "-fast", "x.txt"}, {"policy", "default", "tawkto"}, {"grammar", "all"}, {"version", "1"},
		{"policy", "-check"}, {"policy", "-diff", "slack"}, {"policy", "-diff", "-check", "slack", "teams"}, {"policy", "-diff", "slack", "nosuch"},
	} {
		code, out, wrong := call(args...)
		require.Equal(t, exitWrong, code, args)
		require.Empty(t, out, args)
		require.NotEmpty(t, wrong, args)
	}
	_, _, wrong = call("simulate")
	require.Equal(t, "presencectl: simulate: wrong arguments: no file is given; want presencectl simulate [FLAGS] FILE...\n", wrong)
}
