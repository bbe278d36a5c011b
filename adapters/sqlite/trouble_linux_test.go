package sqlite_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

// byNobody opens the file and saves in another process that may do no more than
// anybody, and returns the error.
func byNobody(t *testing.T, path string) string {
	t.Helper()
	c := exec.Command(os.Args[0])
	if os.Getuid() == 0 {
		// The program runs as another user, who must be able to read it.
		program, err := os.ReadFile(os.Args[0])
		require.NoError(t, err)
		dir, err := os.MkdirTemp("", "nobody")
		require.NoError(t, err)
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		require.NoError(t, os.Chmod(dir, 0o755))
		// A program that is open for writing cannot be run, and a child that another
		// test forks meanwhile holds the file open until it runs its own program.
		syscall.ForkLock.RLock()
		err = os.WriteFile(filepath.Join(dir, "test"), program, 0o755)
		syscall.ForkLock.RUnlock()
		require.NoError(t, err)
		c = exec.Command(filepath.Join(dir, "test"))
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	c.Dir = "/"
	c.Env = append(os.Environ(), asNobody+"="+path)
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// publicDir is a directory that anybody may look into.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "presence")
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = os.Chmod(dir, 0o755)
		_ = os.RemoveAll(dir)
	})
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// A disk of a megabyte, where that can be mounted, fills up and is made room on.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Logf("no disk of its own can be mounted (%v): see TestNoMorePages for the engine's own bound", err)
		return
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	ballast := filepath.Join(dir, "ballast")
	require.NoError(t, os.WriteFile(ballast, make([]byte, 400_000), 0o644))
	s := open(t, filepath.Join(dir, "presence.db"), nil)
	data := strings.Repeat("x", 5000)
	last := 0
	var err error
	for ; last < 1000; last++ {
		if err = s.Save(t.Context(), write(presence.ID(fmt.Sprint(last)), 0, 1, data)); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, presence.ErrUnavailable)
	require.ErrorContains(t, err, "the disk is full")
	require.Greater(t, last, 10)
	refs := make([]presence.Ref, last+1)
	for i := range refs {
		refs[i] = presence.ID(fmt.Sprint(i))
	}
	records, err := s.Load(t.Context(), refs...)
	require.NoError(t, err)
	require.Equal(t, last, len(records), "everything that was acknowledged, and no more")

	require.NoError(t, os.Remove(ballast))
	require.NoError(t, s.Save(t.Context(), write(refs[last], 0, 1, data)), "nothing has to be opened again")
	require.NoError(t, s.Close())
	s = open(t, filepath.Join(dir, "presence.db"), nil)
	records, err = s.Load(t.Context(), refs...)
	require.NoError(t, err)
	require.Equal(t, last+1, len(records))
}

func TestReadOnlyDirectory(t *testing.T) {
	t.Parallel()
	dir := publicDir(t)
	path := filepath.Join(dir, "presence.db")
	require.NoError(t, os.Chmod(dir, 0o555))
	says := byNobody(t, path)
	require.Contains(t, says, fmt.Sprintf("unavailable storage %q: ", path)+"the file cannot be opened: its directory must be there and writable")

	// A file that is there, in a directory where none can be put beside it.
	require.NoError(t, os.Chmod(dir, 0o755))
	s := open(t, path, nil)
	require.NoError(t, s.Close())
	require.NoError(t, os.Chmod(path, 0o666))
	require.NoError(t, os.Chmod(dir, 0o555))
	require.Contains(t, byNobody(t, path), "unavailable")

	// A file that may only be read.
	require.NoError(t, os.Chmod(path, 0o444))
	require.NoError(t, os.Chmod(dir, 0o777))
	require.Contains(t, byNobody(t, path), fmt.Sprintf("unavailable storage %q: ", path)+"the file or its directory cannot be written")

	require.NoError(t, os.Chmod(path, 0o666))
	for _, suffix := range []string{"-wal", "-shm"} { // made in the likeness of the file
		if err := os.Chmod(path+suffix, 0o666); !errors.Is(err, os.ErrNotExist) {
			require.NoError(t, err)
		}
	}
	require.Equal(t, "<nil>\n", byNobody(t, path))
}
