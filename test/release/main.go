// Command release serves scripts/standalone and scripts/release. It runs in the
// root of the repository.
//
//	go run ./test/release            check the versions in go.work and every go.mod, and print the version
//	go run ./test/release -o DIR     the same, and write the released modules to DIR as a module proxy
//	go run ./test/release -set V     set the version everywhere
//	go run ./test/release -tags      print the tags of the released modules
//
// The released modules are those that go.work replaces.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/mod/zip"
)

func main() {
	out := flag.String("o", "", "write a module proxy to this `folder`")
	set := flag.String("set", "", "set this `version` everywhere")
	tags := flag.Bool("tags", false, "print the tags of the released modules")
	flag.Parse()
	if err := run(*out, *set, *tags); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(out, set string, tags bool) error {
	r, err := read()
	if err != nil {
		return err
	}
	switch {
	case set != "":
		return r.set(set)
	case tags:
		for _, m := range r.released {
			fmt.Println(path.Join(m.New.Path, r.version))
		}
		return nil
	case out != "":
		for _, m := range r.released {
			if err := r.write(out, m); err != nil {
				return fmt.Errorf("%s: %w", m.Old.Path, err)
			}
		}
	}
	fmt.Println(r.version)
	return nil
}

// repository is the repository in the current folder.
type repository struct {
	files    []string // with slashes
	released []*modfile.Replace
	own      string // the path of the root module, a prefix of all others
	version  string
}

// read reads the repository and returns all its faults joined.
func read() (*repository, error) {
	list, err := exec.Command("git", "ls-files", "-co", "--exclude-standard", "-z").Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	data, err := os.ReadFile("go.work")
	if err != nil {
		return nil, err
	}
	work, err := modfile.ParseWork("go.work", data, nil)
	if err != nil {
		return nil, err
	}
	if len(work.Replace) == 0 {
		return nil, errors.New("go.work: no module is released: it replaces none")
	}
	r := &repository{released: work.Replace, own: work.Replace[0].Old.Path, version: work.Replace[0].Old.Version}
	for file := range strings.SplitSeq(string(list), "\x00") {
		if _, err := os.Lstat(file); err == nil {
			r.files = append(r.files, file)
		}
	}
	var faults []error
	fault := func(file string, line *modfile.Line, format string, args ...any) {
		if line != nil {
			file = fmt.Sprintf("%s:%d", file, line.Start.Line)
		}
		faults = append(faults, fmt.Errorf("%s: "+format, append([]any{file}, args...)...))
	}
	used := make(map[string]bool)
	for _, u := range work.Use {
		used[path.Clean(u.Path)] = true
	}
	folders := make(map[string]string) // of the released modules
	for _, m := range work.Replace {
		if m.Old.Version != r.version {
			fault("go.work", m.Syntax, "%s is replaced at %q; allowed: %s, as the first", m.Old.Path, m.Old.Version, r.version)
		}
		m.New.Path = path.Clean(m.New.Path)
		folders[m.Old.Path] = m.New.Path
	}
	for _, file := range r.files {
		switch path.Base(file) {
		case "go.sum":
			data, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			for line := range strings.Lines(string(data)) {
				if name, _, _ := strings.Cut(line, " "); r.owns(name) {
					fault(file, nil, "it has a line of %s, whose content changes under one version", name)
				}
			}
		case "go.mod":
			data, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			mod, err := modfile.Parse(file, data, nil)
			if err != nil {
				return nil, err
			}
			dir := path.Dir(file)
			if !used[dir] {
				fault(file, nil, "go.work does not use it")
			}
			if want, found := folders[mod.Module.Mod.Path]; found && want != dir {
				fault(file, mod.Module.Syntax, "go.work has %s in ./%s", mod.Module.Mod.Path, want)
			}
			for _, m := range mod.Replace {
				fault(file, m.Syntax, "it replaces %s, which has no effect in modules that require this one; replace it in go.work", m.Old.Path)
			}
			for _, m := range mod.Require {
				switch _, found := folders[m.Mod.Path]; {
				case !r.owns(m.Mod.Path):
				case !found:
					fault(file, m.Syntax, "it requires %s, which is not released", m.Mod.Path)
				case m.Mod.Version != r.version:
					fault(file, m.Syntax, "it requires %s %s; allowed: %s, the version in go.work", m.Mod.Path, m.Mod.Version, r.version)
				}
			}
		}
	}
	return r, errors.Join(faults...)
}

// owns reports whether a module belongs to the repository.
func (r *repository) owns(name string) bool {
	return name == r.own || strings.HasPrefix(name, r.own+"/")
}

// write adds a released module to the module proxy in a folder.
func (r *repository) write(out string, m *modfile.Replace) error {
	license := true
	var files []zip.File
	for _, name := range r.files {
		if m.New.Path != "." {
			var inside bool
			if name, inside = strings.CutPrefix(name, m.New.Path+"/"); !inside {
				continue
			}
		}
		files = append(files, file{name, filepath.Join(m.New.Path, name)})
		license = license && name != "LICENSE"
	}
	if license { // as the go command does for a module in a repository
		files = append(files, file{"LICENSE", "LICENSE"})
	}
	var archive bytes.Buffer
	if err := zip.Create(&archive, module.Version{Path: m.Old.Path, Version: r.version}, files); err != nil {
		return err
	}
	mod, err := os.ReadFile(filepath.Join(m.New.Path, "go.mod"))
	if err != nil {
		return err
	}
	escaped, err := module.EscapePath(m.Old.Path)
	if err != nil {
		return err
	}
	dir := filepath.Join(out, filepath.FromSlash(escaped), "@v")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		"list":              []byte(r.version + "\n"),
		r.version + ".info": fmt.Appendf(nil, "{\"Version\":%q}\n", r.version),
		r.version + ".mod":  mod,
		r.version + ".zip":  archive.Bytes(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// file is a file of a module, with the name of the file on the disk.
type file struct{ name, from string }

func (f file) Path() string                 { return f.name }
func (f file) Lstat() (fs.FileInfo, error)  { return os.Lstat(f.from) }
func (f file) Open() (io.ReadCloser, error) { return os.Open(f.from) }

// set sets the version in go.work and in every go.mod.
func (r *repository) set(version string) error {
	if semver.Canonical(version) != version {
		return fmt.Errorf("version %q: allowed: a whole one such as v0.1.0", version)
	}
	for _, name := range r.files {
		if name != "go.work" && path.Base(name) != "go.mod" {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var text strings.Builder
		for line := range strings.Lines(string(data)) {
			for _, m := range r.released {
				line = strings.Replace(line, m.Old.Path+" "+r.version, m.Old.Path+" "+version, 1)
			}
			text.WriteString(line)
		}
		if err := os.WriteFile(name, []byte(text.String()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
