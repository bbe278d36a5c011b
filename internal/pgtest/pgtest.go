// Package pgtest runs a PostgreSQL server for tests, in a new data directory and
// on a free port. Close removes the server with its data. The package needs the
// server's programs, which scripts/postgres installs. It never touches a server
// that already runs.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The superuser of a [Server].
const (
	User     = "tester"
	Password = "not a secret"
)

// Server is a PostgreSQL server. It can be stopped, killed and started again.
type Server struct {
	// Dir is the server's data directory.
	Dir string
	// Settings are added to the server's configuration when it starts. The address
	// and a small size are set already.
	Settings map[string]string
	// Wrap is put before the server's command line when it starts, such as a
	// program that traces it.
	Wrap []string

	root    string // removed by Close
	bin     string
	port    int
	as      *syscall.Credential // the user of the server; nil for the user of this process
	process *exec.Cmd
	exited  chan struct{}
	log     *os.File
}

// New makes the data directory of a server, which is not running yet.
func New(ctx context.Context) (s *Server, err error) {
	s = new(Server)
	if s.bin, err = programs(); err != nil {
		return nil, err
	}
	if s.as, err = unprivileged(); err != nil {
		return nil, err
	}
	if s.root, err = os.MkdirTemp("", "pgtest"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(s.root)
		}
	}()
	s.Dir = filepath.Join(s.root, "data")
	password := filepath.Join(s.root, "password")
	if err := os.WriteFile(password, []byte(Password), 0o600); err != nil {
		return nil, err
	}
	if err := s.own(s.root, password); err != nil {
		return nil, err
	}
	// With checksums the server writes a page from a copy. Without them another
	// process may set visibility bits in the page during the write. A trace then
	// has other bytes than the file.
	err = s.run(ctx, "initdb", "--data-checksums", "--pgdata", s.Dir, "--username", User, "--pwfile", password, "--auth-local=trust",
		"--auth-host=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync")
	return s, err
}

// Start makes a new server and starts it.
func Start(ctx context.Context) (*Server, error) {
	s, err := New(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.Start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// programs finds the newest installation of the server.
func programs() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if path, err := exec.LookPath("initdb"); err == nil {
		found = append(found, path)
	}
	if len(found) == 0 {
		return "", errors.New("pgtest: no PostgreSQL server is installed: initdb is neither in /usr/lib/postgresql/*/bin nor in the path; run scripts/postgres")
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })), nil
}

// unprivileged returns the user of the server if the tests run as root, since the
// server refuses to run as root.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, _ := strconv.ParseUint(u.Uid, 10, 32)
			gid, _ := strconv.ParseUint(u.Gid, 10, 32)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("pgtest: PostgreSQL refuses to run as root; run the tests as another user, or add a user postgres or nobody")
}

// own makes the user of the server the owner of files.
func (s *Server) own(paths ...string) error {
	for _, path := range paths {
		if s.as == nil {
			return nil
		}
		if err := os.Chown(path, int(s.as.Uid), int(s.as.Gid)); err != nil {
			return err
		}
	}
	return nil
}

// Restore replaces the data directory by dir, which is moved. The server must not
// be running.
func (s *Server) Restore(dir string) error {
	if err := os.RemoveAll(s.Dir); err != nil {
		return err
	}
	if err := os.Rename(dir, s.Dir); err != nil {
		return err
	}
	if err := os.Chmod(s.Dir, 0o700); err != nil {
		return err
	}
	return filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = s.own(path)
		}
		return err
	})
}

func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = s.root
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	return cmd
}

func (s *Server) run(ctx context.Context, program string, args ...string) error {
	out, err := s.command(ctx, filepath.Join(s.bin, program), args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("pgtest: %s: %w\n%s", program, err, out)
	}
	return nil
}

// Start starts the server and waits until it can be used. The wait includes the
// recovery after a crash.
func (s *Server) Start(ctx context.Context) (err error) {
	if s.port, err = freePort(s.port); err != nil {
		return err
	}
	settings := map[string]string{
		"listen_addresses": "127.0.0.1", "unix_socket_directories": s.root, "port": strconv.Itoa(s.port),
		"shared_buffers": "16MB", "max_connections": "60", "autovacuum": "off", "max_wal_senders": "2",
	}
	maps.Copy(settings, s.Settings)
	args := append(slices.Clone(s.Wrap), filepath.Join(s.bin, "postgres"), "-D", s.Dir)
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	if s.log, err = os.Create(filepath.Join(s.root, "log")); err != nil {
		return err
	}
	cmd := s.command(context.WithoutCancel(ctx), args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = s.log, s.log
	if err := cmd.Start(); err != nil {
		return errors.Join(err, s.log.Close())
	}
	s.process, s.exited = cmd, make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(s.exited)
	}()
	for {
		ready := s.command(ctx, filepath.Join(s.bin, "pg_isready"), "-q", "-h", s.root, "-p", strconv.Itoa(s.port))
		if ready.Run() == nil {
			return nil
		}
		timer := time.NewTimer(20 * time.Millisecond)
		select {
		case <-timer.C:
		case <-s.exited:
			return s.failed("it ended")
		case <-ctx.Done():
			return errors.Join(s.failed(context.Cause(ctx).Error()), s.Kill())
		}
		timer.Stop()
	}
}

// failed returns an error with the server's log.
func (s *Server) failed(why string) error {
	log, _ := os.ReadFile(s.log.Name())
	return fmt.Errorf("pgtest: the server did not start: %s\n%s", why, bytes.TrimSpace(log))
}

// freePort returns a port that is free now: the given one if it is free.
func freePort(port int) (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Port returns the port on 127.0.0.1 on which the server listens.
func (s *Server) Port() int { return s.port }

// URL returns the address of a database over TCP, which asks for the password.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", User, strings.ReplaceAll(Password, " ", "%20"), s.port, database)
}

// SocketURL returns the address of a database over the server's socket.
func (s *Server) SocketURL(database string) string {
	return fmt.Sprintf("host=%s port=%d user=%s dbname=%s", s.root, s.port, User, database)
}

// Exec runs SQL in a database and returns what it prints.
func (s *Server) Exec(ctx context.Context, database, sql string) (string, error) {
	out, err := s.command(ctx, filepath.Join(s.bin, "psql"), "-h", s.root, "-p", strconv.Itoa(s.port), "-U", User,
		"-d", database, "-v", "ON_ERROR_STOP=1", "-XqAt", "-c", sql).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("pgtest: psql: %w\n%s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// Base copies the data of another running server, so that this one is a standby
// that follows it. This server must be new.
func (s *Server) Base(ctx context.Context, primary *Server) error {
	if err := os.RemoveAll(s.Dir); err != nil {
		return err
	}
	return s.run(ctx, "pg_basebackup", "-h", primary.root, "-p", strconv.Itoa(primary.port), "-U", User, "-D", s.Dir, "-X", "stream", "-c", "fast", "-R", "--no-sync")
}

// Stop shuts the server down, ending every connection, and waits for it.
func (s *Server) Stop() error { return s.end(syscall.SIGINT) }

// Crash ends the server at once without a clean shutdown, like a crash of its
// machine. But everything that the server wrote to files stays.
func (s *Server) Crash() error { return s.end(syscall.SIGQUIT) }

func (s *Server) end(sig syscall.Signal) error {
	if s.process == nil {
		return nil
	}
	pid, err := s.pid()
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return s.wait()
}

func (s *Server) wait() error {
	<-s.exited
	s.process = nil
	return s.log.Close()
}

// Kill ends every process of the server with SIGKILL, the first one first, so
// that no process can react.
func (s *Server) Kill() error {
	if s.process == nil {
		return nil
	}
	if pid, err := s.pid(); err == nil {
		_ = syscall.Kill(pid, syscall.SIGSTOP) // it must not start others meanwhile
		children := Children(pid)
		_ = syscall.Kill(pid, syscall.SIGKILL)
		for _, child := range children {
			_ = syscall.Kill(child, syscall.SIGKILL)
		}
		for _, child := range children {
			for syscall.Kill(child, 0) == nil && !zombie(child) {
				time.Sleep(time.Millisecond)
			}
		}
	}
	if len(s.Wrap) == 0 {
		_ = s.process.Process.Kill()
	}
	return s.wait()
}

// pid returns the server's first process. With Wrap it may differ from the process
// started here.
func (s *Server) pid() (int, error) {
	if len(s.Wrap) == 0 {
		return s.process.Process.Pid, nil
	}
	text, err := os.ReadFile(filepath.Join(s.Dir, "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return strconv.Atoi(first)
}

// Children returns the processes that a process has started.
func Children(pid int) (children []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		after := text[bytes.LastIndexByte(text, ')')+1:]
		if f := bytes.Fields(after); len(f) > 1 && string(f[1]) == strconv.Itoa(pid) {
			if child, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
				children = append(children, child)
			}
		}
	}
	return children
}

func zombie(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	f := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	return len(f) > 0 && string(f[0]) == "Z"
}

// Close kills the server if it is running and removes all its files.
func (s *Server) Close() error {
	return errors.Join(s.Kill(), os.RemoveAll(s.root))
}
