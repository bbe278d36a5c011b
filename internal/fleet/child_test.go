package fleet

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// serving is a child for tests.
func serving(in io.Reader, out io.Writer) error {
	return ServeChild(in, out, "here", func(line string) (any, error) {
		if line == "pid" {
			return os.Getpid(), nil
		}
		return nil, fmt.Errorf("cannot %s", line)
	})
}

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "child" {
		if err := serving(os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestChild(t *testing.T) {
	c, err := StartChild((*exec.Cmd).Start, "child")
	require.NoError(t, err)
	require.Equal(t, "here", c.Address)
	var pid int
	require.NoError(t, c.Ask("pid", &pid))
	require.Equal(t, c.PID, pid)
	require.NotEqual(t, os.Getpid(), pid)
	require.EqualError(t, c.Ask("dance", &pid), `the server, asked "dance": cannot dance`)

	if _, _, err := Usage(os.Getpid()); err == nil {
		m := Meter{PID: c.PID}
		require.Nil(t, m.Process())
		m.Read()
		m.Read()
		require.Positive(t, m.RSS())
		require.Contains(t, m.Process().String(), fmt.Sprintf("process %d, ", c.PID))
		require.NoError(t, c.Stop())
		m.Read()
		require.Positive(t, m.RSS(), "the last reading")
		_, _, err := Usage(c.PID)
		require.Error(t, err)
		return
	}
	require.NoError(t, c.Stop())
}

func TestLocalChild(t *testing.T) {
	c, err := LocalChild(serving)
	require.NoError(t, err)
	var pid int
	require.NoError(t, c.Ask("pid", &pid))
	require.Equal(t, os.Getpid(), pid)
	require.NoError(t, c.Stop())
	require.Error(t, c.Ask("pid", &pid))

	broken := errors.New("broken")
	_, err = LocalChild(func(io.Reader, io.Writer) error { return broken })
	require.ErrorIs(t, err, broken)
}

func TestBytes(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 9_000: "9000 B", 20 << 10: "20 KB", 30 << 20: "30 MB"} {
		require.Equal(t, want, Bytes(n))
	}
}
