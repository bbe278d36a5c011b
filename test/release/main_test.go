package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// clone copies the files that the scripts read into a temporary folder, and
// changes into it.
func clone(t *testing.T) {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	list := command(t, "git", "-C", root, "ls-files", "-co", "--exclude-standard",
		"*go.mod", "*go.sum", "go.work", "LICENSE", "scripts", "test/release", "adapters/ws")
	t.Chdir(t.TempDir())
	for name := range strings.Lines(list) {
		name = strings.TrimSpace(name)
		data, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) { // deleted, but not committed yet
			continue
		}
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, data, 0o755))
	}
	command(t, "git", "init", "-q")
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %q: %s", name, args, out)
	return string(out)
}

const own = "github.com/presence-go/presence"

// H14: scripts/standalone refuses what would make a module of
// the workspace another one than an application gets.
func TestStandaloneFails(t *testing.T) {
	clone(t)
	r, err := read()
	require.NoError(t, err)
	for name, c := range map[string]struct {
		file, old, replacement string
		want                   string
	}{
		"a replacement": {"adapters/ws/go.mod", "\nrequire", "\nreplace " + own + " => ../..\n\nrequire",
			"adapters/ws/go.mod:5: it replaces " + own},
		"another version": {"adapters/ws/go.mod", own + " " + r.version, own + " v0.9.9",
			"it requires " + own + " v0.9.9; allowed: " + r.version + ", the version in go.work"},
		"two versions in go.work": {"go.work", own + "/adapters/ws " + r.version, own + "/adapters/ws v0.9.9",
			own + `/adapters/ws is replaced at "v0.9.9"; allowed: ` + r.version},
		"all versions in go.work": {"go.work", own + "/adapters/ws " + r.version, own + "/adapters/ws",
			own + `/adapters/ws is replaced at ""; allowed: ` + r.version},
		"another folder in go.work": {"go.work", "=> ./adapters/ws", "=> ./adapters/pusher",
			"adapters/ws/go.mod:1: go.work has " + own + "/adapters/ws in ./adapters/pusher"},
		"a module that is not released": {"adapters/ws/go.mod", own + " " + r.version, own + "/bench " + r.version,
			"it requires " + own + "/bench, which is not released"},
		"a sum of an own module": {"adapters/ws/go.sum", "", own + " " + r.version + " h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
			"adapters/ws/go.sum: it has a line of " + own},
		"a module outside the workspace": {"go.work", "\t./adapters/ws\n", "",
			"adapters/ws/go.mod: go.work does not use it"},
	} {
		t.Run(name, func(t *testing.T) {
			before, err := os.ReadFile(c.file)
			require.NoError(t, err)
			require.Contains(t, string(before), c.old)
			require.NoError(t, os.WriteFile(c.file, []byte(strings.Replace(string(before), c.old, c.replacement, 1)), 0o644))
			out, err := exec.Command("scripts/standalone").CombinedOutput()
			require.NoError(t, os.WriteFile(c.file, before, 0o644))
			require.Error(t, err)
			require.Contains(t, string(out), c.want)
		})
	}
}

func TestProxy(t *testing.T) {
	clone(t)
	require.NoError(t, run("proxy", "", false))
	r, err := read()
	require.NoError(t, err)
	require.Len(t, r.released, 10)
	for _, m := range r.released {
		dir := filepath.Join("proxy", m.Old.Path, "@v")
		list, err := os.ReadFile(filepath.Join(dir, "list"))
		require.NoError(t, err)
		require.Equal(t, r.version+"\n", string(list))
		info, err := os.ReadFile(filepath.Join(dir, r.version+".info"))
		require.NoError(t, err)
		require.JSONEq(t, `{"Version": "`+r.version+`"}`, string(info))
		want, err := os.ReadFile(filepath.Join(m.New.Path, "go.mod"))
		require.NoError(t, err)
		mod, err := os.ReadFile(filepath.Join(dir, r.version+".mod"))
		require.NoError(t, err)
		require.Equal(t, string(want), string(mod))

		content, err := zip.CheckZip(module.Version{Path: m.Old.Path, Version: r.version}, filepath.Join(dir, r.version+".zip"))
		require.NoError(t, err)
		require.NoError(t, content.Err())
		prefix := m.Old.Path + "@" + r.version + "/"
		require.Contains(t, content.Valid, prefix+"LICENSE")
		require.Contains(t, content.Valid, prefix+"go.mod")
		require.Equal(t, m.New.Path == "adapters/ws", slices.Contains(content.Valid, prefix+"ws.go"))
		require.NotContains(t, content.Valid, prefix+"adapters/ws/ws.go", "it is of another module")
	}
}

// TestRelease checks that scripts/release sets the version everywhere, tests
// and commits. It makes no tag, and refuses a version that has one.
func TestRelease(t *testing.T) {
	clone(t)
	git := func(args ...string) string {
		return command(t, "git", append([]string{"-c", "user.name=a", "-c", "user.email=a@example.com"}, args...)...)
	}
	t.Setenv("GIT_AUTHOR_NAME", "a")
	t.Setenv("GIT_AUTHOR_EMAIL", "a@example.com")
	t.Setenv("GIT_COMMITTER_NAME", "a")
	t.Setenv("GIT_COMMITTER_EMAIL", "a@example.com")
	require.NoError(t, os.WriteFile("scripts/test", []byte("#!/bin/sh\necho tested\n! grep -rq 'presence v0.1.0' --include go.mod .\n"), 0o755))
	git("add", "-A")
	git("commit", "-qm", "test: begin")
	before := git("rev-parse", "HEAD")

	out := command(t, "scripts/release", "v0.7.3")
	head := strings.TrimSpace(git("rev-parse", "HEAD"))
	require.Equal(t, before, git("rev-parse", "HEAD~1"), "one commit")
	tags := strings.Fields("v0.7.3 adapters/ical/v0.7.3 adapters/phoenix/v0.7.3 adapters/postgres/v0.7.3 adapters/pusher/v0.7.3 adapters/sqlite/v0.7.3 " +
		"adapters/webhook/v0.7.3 adapters/ws/v0.7.3 cmd/presencectl/v0.7.3 examples/v0.7.3")
	require.Equal(t, "tested\ntags of "+head+":\n"+strings.Join(tags, "\n")+"\n", out)
	require.Empty(t, git("tag"))
	require.Empty(t, git("status", "--porcelain"))
	r, err := read()
	require.NoError(t, err, "go.work and every go.mod agree")
	require.Equal(t, "v0.7.3", r.version)

	// A second run has nothing to commit.
	require.Equal(t, out, command(t, "scripts/release", "v0.7.3"))
	require.Equal(t, head, strings.TrimSpace(git("rev-parse", "HEAD")))

	git("tag", "adapters/ws/v0.8.0")
	for version, want := range map[string]string{"v0.8.0": "the tag adapters/ws/v0.8.0 exists", "0.8.0": "allowed: a whole one", "v0.8": "allowed: a whole one"} {
		refused, err := exec.Command("scripts/release", version).CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(refused), want)
		require.Empty(t, git("status", "--porcelain"))
	}
	require.NoError(t, os.WriteFile("new", nil, 0o644))
	refused, err := exec.Command("scripts/release", "v0.9.0").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(refused), "commit them first")
}
