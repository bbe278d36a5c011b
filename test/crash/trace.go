package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// traced are the system calls that change files or make changes durable.
const traced = "openat,open,creat,write,writev,pwrite64,pwritev,pwritev2,ftruncate,truncate,fallocate,lseek," +
	"rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,fsync,fdatasync,sync,syncfs,copy_file_range,sendfile"

// tracer is the command that records the changes of a process to files.
func tracer(file string) []string {
	return []string{"strace", "-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", "67108864", "-e", "signal=none", "-e", "trace=" + traced, "-o", file}
}

// disk is a directory on a disk that has lost unsynced data. It has the files
// at the start, and the changes of a trace. It loses contents of files, but no
// names: a created, renamed or removed file stays so.
type disk struct {
	base    string           // the directory at the start
	dir     string           // its name for the traced process
	files   map[string]*file // touched files, by path in the directory; nil for a removed one
	offsets map[string]int64 // the offset of the next write, by process, descriptor and path
	busy    map[string]string
	began   map[string]mark // running syncs, by process
	dying   map[string]bool // processes whose last write could not be read

	Writes, Syncs, Forgotten int
}

type file struct {
	data    []byte   // what is on disk
	pending []change // perhaps on disk
	last    int64    // the offset of the last write
	unsure  bool     // a change was running when the process was killed
}

// change is a write at an offset or, without data, a truncation to a size.
type change struct {
	at   int64
	data []byte
	cut  bool
}

type mark struct {
	file *file
	n    int
}

// replay reads a trace of the changes to dir. base is an earlier copy of dir.
func replay(trace, base, dir string) (*disk, error) {
	f, err := os.Open(trace)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d := &disk{base: base, dir: dir, files: make(map[string]*file), offsets: make(map[string]int64), busy: make(map[string]string), began: make(map[string]mark), dying: make(map[string]bool)}
	lines := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := lines.ReadString('\n')
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			if err := d.line(line); err != nil {
				return nil, fmt.Errorf("crash: trace: %w in %.200q", err, line)
			}
		}
		if err != nil {
			break
		}
	}
	for _, call := range d.busy { // running when the process died
		if fds := descriptors.FindStringSubmatch(call); fds != nil {
			if path, ok := d.path(fds[2]); ok {
				if f, err := d.file(path); err == nil && f != nil {
					f.unsure = true
				}
			}
		}
	}
	return d, nil
}

var (
	callLine    = regexp.MustCompile(`^(\d+) +(.*)$`)
	resumed     = regexp.MustCompile(`^<\.\.\. \w+ resumed>`)
	descriptors = regexp.MustCompile(`\((\d+)<([^>]*)>`)
	quoted      = regexp.MustCompile(`"((?:\\x[0-9a-f]{2})*)"`)
	result      = regexp.MustCompile(`^(\w+)\((.*)\) += (-?\d+)(?:<([^>]*)>)?`)
)

func (d *disk) line(line string) error {
	m := callLine.FindStringSubmatch(line)
	if m == nil {
		return errors.New("no process")
	}
	pid, text := m[1], m[2]
	switch {
	case strings.HasPrefix(text, "+++"), strings.HasPrefix(text, "---"):
		return nil
	case d.dying[pid]:
		return errors.New("the trace misses data of a write, and the process continued")
	case strings.HasSuffix(text, " <unfinished ...>"):
		if text = strings.TrimSuffix(text, " <unfinished ...>"); strings.HasPrefix(text, "<... ") {
			return nil // still running
		}
		d.busy[pid] = text
		if strings.HasPrefix(text, "fsync(") || strings.HasPrefix(text, "fdatasync(") {
			return d.beginSync(pid, text)
		}
		return nil
	case strings.HasPrefix(text, "<... "):
		text = d.busy[pid] + resumed.ReplaceAllString(text, "")
		delete(d.busy, pid)
	}
	r := result.FindStringSubmatch(text)
	if r == nil || strings.Contains(text, "= -1 (errno ") { // a tracer reads this of a dead process
		d.busy[pid] = text // killed during the call
		return nil
	}
	if strings.HasPrefix(r[3], "-") {
		return nil
	}
	n, err := strconv.ParseInt(r[3], 10, 64)
	if err != nil {
		return err
	}
	return d.call(pid, r[1], r[2], n, r[4])
}

// call applies a system call that returned n. opened is the name of a file that
// it opened.
func (d *disk) call(pid, name, args string, n int64, opened string) error {
	var fd, target string
	if m := descriptors.FindStringSubmatch("(" + args); m != nil {
		fd, target = m[1], m[2]
	}
	path, ours := d.path(target)
	key := pid + " " + fd + " " + path
	word := strings.Split(args, ", ")
	number := func(i int) (int64, error) { return strconv.ParseInt(word[i], 0, 64) }
	switch name {
	case "openat", "open", "creat":
		path, ours := d.path(opened)
		if !ours {
			return nil
		}
		d.offsets[pid+" "+strconv.FormatInt(n, 10)+" "+path] = 0
		f, err := d.file(path)
		if err != nil {
			return err
		}
		if f == nil && strings.Contains(args, "O_CREAT") {
			d.files[path] = new(file)
		} else if f != nil && strings.Contains(args, "O_TRUNC") {
			f.pending = append(f.pending, change{cut: true})
		}
		if strings.Contains(args, "O_APPEND") && f != nil {
			d.offsets[pid+" "+strconv.FormatInt(n, 10)+" "+path] = int64(len(f.live()))
		}
		return nil
	case "lseek":
		d.offsets[key] = n
		return nil
	case "write", "writev", "pwrite64", "pwritev", "pwritev2":
		if !ours {
			return nil
		}
		var data []byte
		for _, m := range quoted.FindAllStringSubmatch(args, -1) {
			part, err := hex.DecodeString(strings.ReplaceAll(m[1], `\x`, ""))
			if err != nil {
				return err
			}
			data = append(data, part...)
		}
		if int64(len(data)) < n {
			// The memory of a killed process is gone before the tracer reads it.
			d.dying[pid] = true
			f, err := d.file(path)
			if err == nil && f != nil {
				f.unsure = true
			}
			return err
		}
		at := d.offsets[key]
		switch name {
		case "write", "writev":
			d.offsets[key] += n
		case "pwritev2":
			return errors.New("not known here")
		default:
			var err error
			if at, err = number(len(word) - 1); err != nil {
				return err
			}
		}
		f, err := d.file(path)
		if err != nil || f == nil {
			return err
		}
		d.Writes++
		f.pending, f.last = append(f.pending, change{at: at, data: data[:n]}), at
		return nil
	case "ftruncate":
		size, err := number(1)
		if err != nil || !ours {
			return err
		}
		f, err := d.file(path)
		if err == nil && f != nil {
			f.pending = append(f.pending, change{at: size, cut: true})
		}
		return err
	case "truncate": // of a file that is not open
		names := d.names(args)
		if len(names) != 1 || names[0] == "" {
			return nil
		}
		size, err := number(1)
		if err != nil {
			return err
		}
		f, err := d.file(names[0])
		if err == nil && f != nil {
			f.pending = append(f.pending, change{at: size, cut: true})
		}
		return err
	case "fallocate":
		if !ours {
			return nil
		}
		if word[1] != "0" {
			return errors.New("not known here")
		}
		at, err1 := number(2)
		size, err2 := number(3)
		f, err := d.file(path)
		if err := errors.Join(err, err1, err2); err != nil || f == nil {
			return err
		}
		if grown := int64(len(f.live())); at+size > grown {
			f.pending = append(f.pending, change{at: at + size, cut: true})
		}
		return nil
	case "fsync", "fdatasync":
		if _, began := d.began[pid]; !began {
			if err := d.beginSync(pid, name+"("+args); err != nil {
				return err
			}
		}
		if m := d.began[pid]; m.file != nil {
			d.Syncs++
			for _, c := range m.file.pending[:m.n] {
				m.file.data = c.apply(m.file.data)
			}
			m.file.pending = slices.Delete(m.file.pending, 0, m.n)
			for other, o := range d.began { // of the same file, started earlier or later
				if other != pid && o.file == m.file {
					d.began[other] = mark{o.file, max(0, o.n-m.n)}
				}
			}
		}
		delete(d.began, pid)
		return nil
	case "rename", "renameat", "renameat2", "link", "linkat":
		from, to, err := d.two(args)
		if err != nil || from == "" && to == "" {
			return err
		}
		if from == "" || to == "" {
			return errors.New("a name from elsewhere")
		}
		f, err := d.file(from)
		if err != nil {
			return err
		}
		if f == nil { // a directory
			return errors.New("a directory gets another name")
		}
		d.files[to] = f
		if strings.HasPrefix(name, "rename") {
			d.files[from] = nil
		}
		return nil
	case "unlink", "unlinkat":
		names := d.names(args)
		if len(names) != 1 {
			return errors.New("no name")
		}
		if names[0] != "" {
			d.files[names[0]] = nil
		}
		return nil
	case "mkdir", "mkdirat":
		if names := d.names(args); len(names) == 1 && names[0] != "" {
			return os.MkdirAll(filepath.Join(d.base, names[0]), 0o700)
		}
		return nil
	case "rmdir":
		return nil
	case "copy_file_range", "sendfile", "symlink", "symlinkat", "sync", "syncfs":
		if ours || slices.ContainsFunc(d.names(args), func(n string) bool { return n != "" }) {
			return errors.New("not known here")
		}
		return nil
	}
	return errors.New("not known here")
}

// beginSync records the changes that a starting sync will make durable at its
// end.
func (d *disk) beginSync(pid, call string) error {
	m := descriptors.FindStringSubmatch(call)
	if m == nil {
		return errors.New("no file")
	}
	path, ours := d.path(m[2])
	if !ours {
		d.began[pid] = mark{}
		return nil
	}
	if info, err := os.Stat(filepath.Join(d.base, path)); err == nil && info.IsDir() {
		d.began[pid] = mark{} // names are durable at once
		return nil
	}
	f, err := d.file(path)
	if err != nil {
		return err
	}
	d.began[pid] = mark{}
	if f != nil {
		d.began[pid] = mark{f, len(f.pending)}
	}
	return nil
}

// path returns the path in the directory of a file, from the name in the trace.
func (d *disk) path(escaped string) (string, bool) {
	name, err := hex.DecodeString(strings.ReplaceAll(escaped, `\x`, ""))
	if err != nil || len(name) == 0 {
		return "", false
	}
	p := string(name)
	if !filepath.IsAbs(p) {
		p = filepath.Join(d.dir, p)
	}
	rel, err := filepath.Rel(d.dir, p)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") || strings.HasSuffix(p, "-shm") {
		return "", false
	}
	return rel, true
}

// names returns the names among the arguments, "" for those outside the
// directory.
func (d *disk) names(args string) (names []string) {
	for _, m := range quoted.FindAllStringSubmatch(args, -1) {
		p, _ := d.path(m[1])
		names = append(names, p)
	}
	return names
}

func (d *disk) two(args string) (from, to string, err error) {
	names := d.names(args)
	if len(names) != 2 {
		return "", "", errors.New("two names were expected")
	}
	return names[0], names[1], nil
}

// file returns a file, or nil if it does not exist.
func (d *disk) file(path string) (*file, error) {
	if f, ok := d.files[path]; ok {
		return f, nil
	}
	data, err := os.ReadFile(filepath.Join(d.base, path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if info, statErr := os.Stat(filepath.Join(d.base, path)); statErr == nil && info.IsDir() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f := &file{data: data}
	d.files[path] = f
	return f, nil
}

func (c change) apply(data []byte) []byte {
	end := c.at + int64(len(c.data))
	if grow := end - int64(len(data)); grow > 0 {
		data = append(data, make([]byte, grow)...)
	}
	if c.cut {
		return data[:c.at]
	}
	copy(data[c.at:], c.data)
	return data
}

// live is the content of the file as the process saw it.
func (f *file) live() []byte {
	data := bytes.Clone(f.data)
	for _, c := range f.pending {
		data = c.apply(data)
	}
	return data
}

// compare checks the trace against the directory as the process left it:
// without a loss, they must be equal. It returns the number of compared files.
// The server's log may differ after its last write: the trace has the memory at
// the start of the write, and other processes may change that meanwhile. No
// process relies on those changes before the next write.
func (d *disk) compare() (n int, err error) {
	for path, f := range d.files {
		if f != nil && f.unsure {
			continue
		}
		data, err := os.ReadFile(filepath.Join(d.dir, path))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if f != nil {
				return n, fmt.Errorf("crash: the trace has a file %s, the directory does not", path)
			}
		case err != nil:
			return n, err
		case f == nil:
			return n, fmt.Errorf("crash: the directory has a file %s, the trace does not", path)
		default:
			same := equalUntil(data, f.live())
			if strings.HasPrefix(path, "pg_wal/") && int64(same) >= f.last {
				same = len(data)
			}
			if same != len(data) || len(data) != len(f.live()) {
				return n, fmt.Errorf("crash: by the trace %s has other contents than it has, from %d on", path, same)
			}
		}
		n++
	}
	return n, nil
}

// equalUntil returns the length of the common prefix.
func equalUntil(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// forget changes the copy of the directory into what a disk would have after a
// power loss. Each unsynced change survives with the probability keep.
func (d *disk) forget(keep float64, random *rand.Rand) error {
	for path, f := range d.files {
		path = filepath.Join(d.base, path)
		if f == nil {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		for _, c := range f.pending {
			if random.Float64() < keep {
				f.data = c.apply(f.data)
			} else {
				d.Forgotten++
			}
		}
		if err := os.WriteFile(path, f.data, 0o600); err != nil {
			return err
		}
	}
	return nil
}
