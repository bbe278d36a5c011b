package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/presence-go/presence"
)

// encodings is G18.
func encodings(r *runner) error {
	for _, changes := range []int{1, 20, 1_000} {
		if err := encodingOf(r, changes); err != nil {
			return err
		}
	}
	return sharedEncoding(r)
}

// joins is a diff of joins. A tracker did not make it, so its encoding is not
// cached.
func joins(n int) *presence.Frame {
	p := newPopulation(n)
	f := &presence.Frame{
		Kind: presence.FrameDiff, Version: presence.FrameVersion, Channel: presence.ChannelID("room-1"), Epoch: "1", Seq: 7,
		Group: presence.Group{Status: presence.GroupAvailable, Count: n},
	}
	since := presence.At(time.Date(2026, 1, 1, 9, 30, 0, 0, time.UTC))
	for _, id := range p.ids {
		who := presence.ID(id)
		f.Changes = append(f.Changes, presence.Change{Op: presence.OpJoined, Subject: who, View: &presence.View{
			Subject: who, Status: "available", Class: presence.ClassAvailable, Label: "Available", Color: "#2e9e5b", Since: since,
		}})
	}
	return f
}

func encodingOf(r *runner, changes int) error {
	f := joins(changes)
	byPackage, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if byFloor := appendFrame(nil, f); !bytes.Equal(byFloor, byPackage) {
		return fmt.Errorf("the floor writes %s, encoding/json %s", byFloor, byPackage)
	}
	return r.measure(experiment{
		id: fmt.Sprintf("json/%d", changes), goals: []string{"G18"}, size: changes,
		title:   fmt.Sprintf("encoding a diff of %s joins, %s bytes", count(changes), count(len(byPackage))),
		columns: operationColumns,
		cases: []benchCase{
			repeated(r.options, "append to a buffer", floor, func() (func() error, error) {
				var buffer []byte
				return func() error { buffer = appendFrame(buffer[:0], f); return nil }, nil
			}),
			repeated(r.options, "encoding/json", peer, func() (func() error, error) {
				return func() error { _, err := json.Marshal(f); return err }, nil
			}),
			repeated(r.options, "ours", ours, func() (func() error, error) {
				var buffer []byte
				return func() error { buffer = f.AppendJSON(buffer[:0]); return nil }, nil
			}),
		},
	})
}

// sharedEncoding counts how often a frame is encoded that many watchers read.
func sharedEncoding(r *runner) error {
	const watchers, changes = 100, 20
	var running stopper
	return errors.Join(r.measure(experiment{
		id: "json/shared", goals: []string{"G18"}, size: watchers,
		title:   fmt.Sprintf("encodings of a diff that %d watchers read", watchers),
		columns: []column{{metric: "encodings", header: "encodings"}},
		cases: []benchCase{{name: "ours", role: ours, setup: func() (run, error) {
			w, err := newWatching(2, watchers)
			if err != nil {
				return nil, err
			}
			running.add(w.stop)
			return func() (sample, error) {
				made := 0
				for i := range changes {
					if err := w.toggle(i%2 == 0); err != nil {
						return nil, err
					}
					known := make(map[*byte]bool)
					for _, watch := range w.watches {
						f, err := watch.Poll()
						if err != nil {
							return nil, err
						}
						encoded, err := f.JSON()
						if err != nil {
							return nil, err
						}
						known[&encoded[0]] = true
					}
					made += len(known)
				}
				return sample{"encodings": float64(made) / changes}, nil
			}, nil
		}}},
	}), running.stop())
}

// appendFrame is the floor of encoding: it writes only the form that a diff of
// people has.
func appendFrame(b []byte, f *presence.Frame) []byte {
	b = append(b, `{"type":"`...)
	b = append(b, f.Kind...)
	b = append(b, `","v":`...)
	b = strconv.AppendInt(b, int64(f.Version), 10)
	b = append(b, `,"channel":{"id":`...)
	b = appendText(b, f.Channel.ID)
	b = append(b, `},"epoch":`...)
	b = appendText(b, f.Epoch)
	b = append(b, `,"seq":`...)
	b = strconv.AppendUint(b, f.Seq, 10)
	b = append(b, `,"group":{"rung":`...)
	b = appendText(b, f.Group.Status)
	b = append(b, `,"count":`...)
	b = strconv.AppendInt(b, int64(f.Group.Count), 10)
	b = append(b, `},"changes":[`...)
	for i := range f.Changes {
		c := &f.Changes[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"op":"`...)
		b = append(b, c.Op...)
		b = append(b, `","subject":{"id":`...)
		b = appendText(b, c.Subject.ID)
		b = append(b, `},"view":{"id":`...)
		b = appendText(b, c.View.Subject.ID)
		b = append(b, `,"status":`...)
		b = appendText(b, c.View.Status)
		b = append(b, `,"class":"`...)
		b = append(b, c.View.Class...)
		b = append(b, `","label":`...)
		b = appendText(b, c.View.Label)
		b = append(b, `,"color":`...)
		b = appendText(b, c.View.Color)
		b = append(b, `,"since":"`...)
		b = c.View.Since.Time().AppendFormat(b, time.RFC3339Nano)
		b = append(b, `"}}`...)
	}
	return append(b, "]}"...)
}

// appendText writes a string that needs no escapes. It passes any other string
// to the standard library.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // a string can always be encoded
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
