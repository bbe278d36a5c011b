package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
)

// errDiffer reports that two policies differ.
var errDiffer = errors.New("the policies differ")

// policy lists the presets, or prints, checks or compares policies.
func policy(flags *flag.FlagSet) action {
	check := flags.Bool("check", false, "check the policies, and print the name of each valid one only")
	diff := flags.Bool("diff", false, "list the paths at which two policies differ, and exit with 1 if they do")
	return func(_ context.Context, names []string, stdout, stderr io.Writer) error {
		switch {
		case *check && *diff:
			return fmt.Errorf("policy: %w: -check and -diff are given, one is allowed", errUsage)
		case *check:
			if len(names) == 0 {
				return fmt.Errorf("policy: %w: -check takes one policy or more", errUsage)
			}
			var faults []error
			for _, name := range names {
				if _, err := readPolicy(name, stderr); err != nil {
					faults = append(faults, err)
					continue
				}
				fmt.Fprintf(stdout, "ok  %s\n", name)
			}
			return errors.Join(faults...)
		case *diff:
			if len(names) != 2 {
				return fmt.Errorf("policy: %w: -diff takes two policies, got %d", errUsage, len(names))
			}
			return comparePolicies(names[0], names[1], stdout, stderr)
		case len(names) == 0:
			for _, name := range preset.Names() {
				fmt.Fprintln(stdout, name)
			}
			return nil
		case len(names) > 1:
			return fmt.Errorf("policy: %w: got %d policies, one is printed", errUsage, len(names))
		}
		p, err := readPolicy(names[0], stderr)
		if err != nil {
			return err
		}
		data, err := p.JSON()
		if err != nil {
			return err
		}
		_, err = stdout.Write(data)
		return err
	}
}

// readPolicy reads a preset or a file. It warns of unknown keys.
func readPolicy(name string, stderr io.Writer) (presence.Policy, error) {
	if p, found := preset.Lookup(name); found {
		return p, nil
	}
	if !strings.HasSuffix(name, ".json") {
		return presence.Policy{}, fmt.Errorf("policy: unknown preset %q; allowed: %s, or a file that ends in .json", name, strings.Join(preset.Names(), ", "))
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return presence.Policy{}, fmt.Errorf("policy: %w", err)
	}
	p, unknown, err := preset.Parse(data)
	if err != nil {
		return p, fmt.Errorf("%s: %w", name, err)
	}
	for _, key := range unknown {
		fmt.Fprintf(stderr, "presencectl: warning: %s: unknown key %s is ignored\n", name, key)
	}
	return p, nil
}

// comparePolicies lists the paths at which two policies differ, with both
// values.
func comparePolicies(a, b string, stdout, stderr io.Writer) error {
	var values [2]map[string]string
	paths := make(map[string]bool)
	for i, name := range []string{a, b} {
		p, err := readPolicy(name, stderr)
		if err != nil {
			return err
		}
		data, err := p.JSON()
		if err != nil {
			return err
		}
		var tree any
		if err := json.Unmarshal(data, &tree); err != nil {
			return err
		}
		values[i] = make(map[string]string)
		flatten(values[i], "", tree)
		for path := range values[i] {
			paths[path] = true
		}
	}
	differ := 0
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		from, in := values[0][path]
		to, also := values[1][path]
		if from == to && in == also {
			continue
		}
		differ++
		if !in {
			from = "none"
		}
		if !also {
			to = "none"
		}
		fmt.Fprintf(stdout, "%s: %s -> %s\n", path, from, to)
	}
	if differ > 0 {
		return fmt.Errorf("policy: %w at %d paths", errDiffer, differ)
	}
	return nil
}

// flatten records each value of a JSON tree by the path for
// [presence.Policy.Set]. An element of a list has its id in the path, or
// without one its index.
func flatten(values map[string]string, path string, tree any) {
	under := func(key string) string { return strings.TrimPrefix(path+"."+key, ".") }
	switch tree := tree.(type) {
	case map[string]any:
		if len(tree) == 0 {
			values[path] = "{}"
		}
		for key, value := range tree {
			flatten(values, under(key), value)
		}
	case []any:
		var names []string
		for i, value := range tree {
			object, ok := value.(map[string]any)
			if !ok {
				names = append(names, fmt.Sprint(value))
				continue
			}
			name, ok := object["id"].(string)
			if !ok {
				name = strconv.Itoa(i)
			}
			names = append(names, name)
			flatten(values, under(name), value)
		}
		values[path] = "[" + strings.Join(names, ",") + "]"
	case string:
		values[path] = tree
		if tree == "" {
			values[path] = `""`
		}
	default:
		values[path] = fmt.Sprint(tree)
	}
}
