package sqlite_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/sqlite"
)

// The test program is also the other process of some tests: it is started again
// with one of these in its environment, and the path of a file.
const (
	asLocker = "SQLITE_TEST_LOCKS" // holds the file until its input ends
	asReader = "SQLITE_TEST_READS" // holds a snapshot of the file until its input ends
	asNobody = "SQLITE_TEST_OPENS" // opens the file and saves, and prints the error
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(asLocker) != "":
		other(os.Getenv(asLocker), "BEGIN IMMEDIATE")
	case os.Getenv(asReader) != "":
		other(os.Getenv(asReader), "BEGIN; SELECT count(*) FROM records")
	case os.Getenv(asNobody) != "":
		s, err := sqlite.Open(context.Background(), os.Getenv(asNobody), nil)
		if err == nil {
			err = s.Save(context.Background(), write(presence.ID("ann"), 0, 1, "x"))
		}
		fmt.Println(err)
	default:
		os.Exit(m.Run())
	}
}

// other runs a statement and keeps what it holds until standard input ends.
func other(path, statement string) {
	db, err := sql.Open("sqlite", "file:"+path)
	if err == nil {
		var c *sql.Conn
		if c, err = db.Conn(context.Background()); err == nil {
			_, err = c.ExecContext(context.Background(), statement)
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("held")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// hold starts another process that holds the file, and returns what ends it.
func hold(t *testing.T, as, path string) (release func()) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), as+"="+path)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	require.NoError(t, err)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "held\n", line)
	ended := false
	release = func() {
		if !ended {
			ended = true
			_ = in.Close()
			require.NoError(t, c.Wait())
		}
	}
	t.Cleanup(release)
	return release
}

func open(t *testing.T, path string, opts *sqlite.Options) *sqlite.Storage {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// write is the write of a record over revision expect.
func write(subject presence.Ref, expect, revision uint64, data string) presence.Write {
	return presence.Write{Record: presence.Record{Subject: subject, Revision: revision, Data: []byte(data)}, Expect: expect}
}

// raw opens the file beside the adapter.
func raw(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}
