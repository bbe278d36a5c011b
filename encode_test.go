package presence_test

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/seeds"
)

// fillIn gives a value's fields something each, or nothing.
func fillIn(rng *rand.Rand, v reflect.Value) {
	if rng.IntN(4) == 0 && v.Kind() != reflect.Struct {
		return
	}
	switch v.Kind() {
	case reflect.String:
		words := []string{"ann", "Zoë", `a "quoted" \ one`, "<b>&amp;</b>", "line\nbreak\ttab\r\b\f\x00\x1f\x7f", "\u2028\u2029\u202a", "bad \xff\xc0 bytes", "👋🏽", strings.Repeat("x", 100)}
		v.SetString(words[rng.IntN(len(words))])
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(rng.Int64() >> rng.IntN(60))
		if v.Type() == reflect.TypeFor[presence.Instant]() {
			at := time.Date(2026, 3, 4, 5, 6, 7, rng.IntN(3)*rng.IntN(1e9), time.UTC).Add(time.Duration(rng.IntN(1e6)) * time.Second)
			v.SetInt(int64(presence.At(at)))
		}
	case reflect.Uint32:
		v.SetUint(uint64(rng.Uint32()))
	case reflect.Uint64:
		v.SetUint(rng.Uint64())
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillIn(rng, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rng.IntN(4), 4))
		for i := range v.Len() {
			fillIn(rng, v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fillIn(rng, v.Field(i))
			}
		}
	default:
		panic("a frame has a field of kind " + v.Kind().String() + ", which this test does not know")
	}
}

// The standard library encodes plainView and its like, as a second
// opinion of the encoder.
type plainView struct {
	presence.Ref
	viewFields
}

type viewFields presence.View

type plainChange struct {
	Op      presence.Op      `json:"op"`
	Subject presence.Ref     `json:"subject"`
	View    *plainView       `json:"view,omitzero"`
	ID      string           `json:"id,omitzero"`
	Status  string           `json:"status,omitzero"`
	Until   presence.Instant `json:"until,omitzero"`
}

type plainFrame struct {
	Kind    presence.FrameKind `json:"type"`
	Version int                `json:"v"`
	Channel presence.Ref       `json:"channel"`
	Epoch   string             `json:"epoch"`
	Seq     uint64             `json:"seq"`
	Lagged  bool               `json:"lagged,omitzero"`
	Group   presence.Group     `json:"group"`
	Members []plainView        `json:"members,omitempty"`
	Changes []plainChange      `json:"changes,omitempty"`
}

// plain returns a frame as the standard library has to encode it.
func plain(f *presence.Frame) plainFrame {
	p := plainFrame{Kind: f.Kind, Version: f.Version, Channel: presence.Ref(f.Channel), Epoch: f.Epoch, Seq: f.Seq, Lagged: f.Lagged, Group: f.Group}
	for _, v := range f.Members {
		p.Members = append(p.Members, plainView{v.Subject, viewFields(v)})
	}
	for _, c := range f.Changes {
		d := plainChange{Op: c.Op, Subject: c.Subject, ID: c.ID, Status: c.Status, Until: c.Until}
		if c.View != nil {
			d.View = &plainView{c.View.Subject, viewFields(*c.View)}
		}
		p.Changes = append(p.Changes, d)
	}
	return p
}

// A view is decoded to what was encoded, as far as its text is valid.
func TestViewsSurviveJSON(t *testing.T) {
	rng := rand.New(rand.NewPCG(seeds.List(t, 1)[0], 9))
	for range 3000 {
		var view presence.View
		fillIn(rng, reflect.ValueOf(&view).Elem())
		view.Load, view.Pinned = presence.NewCount(rng.IntN(3)), presence.NewCount(0)
		data, err := json.Marshal(view)
		require.NoError(t, err)
		var got presence.View
		require.NoError(t, json.Unmarshal(data, &got))
		again, err := json.Marshal(got)
		require.NoError(t, err)
		require.JSONEq(t, string(data), string(again))
		require.Equal(t, view.Since, got.Since)
		require.Equal(t, view.Devices, got.Devices)
	}
}

// The encoder writes byte for byte what the standard library would.
func TestFramesAreEncodedLikeTheStandardLibraryDoes(t *testing.T) {
	rng := rand.New(rand.NewPCG(seeds.List(t, 1)[0], 9))
	for range 3000 {
		var f presence.Frame
		fillIn(rng, reflect.ValueOf(&f).Elem())
		want, err := json.Marshal(plain(&f))
		require.NoError(t, err)
		require.Equal(t, string(want), string(f.AppendJSON(nil)))
		got, err := f.JSON()
		require.NoError(t, err)
		require.Equal(t, string(want), string(got))
	}
}

// Every byte of a text is written as the standard library would, also where it is no
// text, and in every field of a frame or none.
func TestEveryByteIsEncodedLikeTheStandardLibraryDoes(t *testing.T) {
	texts := []string{"", "\ufffd", "a\ufffdb", "\u2027\u2028\u2029\u202a", "\u2028", "\u2029", "\xe2\x80", "x\xe2\x80", "👋🏽", "\xf0\x9f\x91", "a\xf0\x9fb", "\u0080é\u07ff\u0800"}
	for c := range 256 {
		texts = append(texts, string([]byte{byte(c)}), string([]byte{'a', byte(c), 'b'}))
	}
	var f presence.Frame
	for _, text := range texts {
		f.Changes = append(f.Changes, presence.Change{ID: text})
	}
	want, err := json.Marshal(plain(&f))
	require.NoError(t, err)
	require.Equal(t, string(want), string(f.AppendJSON(nil)))
	ends := presence.Change{Op: presence.OpRejected, Subject: bob, ID: "c", Status: "busy", Until: 1}
	view := presence.View{Subject: ann, Since: 1, SetAt: -1, Devices: 1, Load: presence.NewCount(0), Pinned: presence.NewCount(1)}
	for _, f := range []presence.Frame{
		{}, {Version: 1, Seq: 1, Lagged: true}, {Version: -1, Seq: 1 << 63, Group: presence.Group{Count: 12, Reason: "closed", NextOpen: 1}},
		{Members: []presence.View{view}}, {Members: []presence.View{view, {}, view}}, {Changes: []presence.Change{ends}}, {Changes: []presence.Change{ends, {View: &view}, ends}},
	} {
		want, err := json.Marshal(plain(&f))
		require.NoError(t, err)
		require.Equal(t, string(want), string(f.AppendJSON(nil)))
		for range 2 { // the buffers are used again
			got, err := f.JSON()
			require.NoError(t, err)
			require.Equal(t, string(want), string(got))
		}
	}
}

// A frame of a roster is encoded once for all who watch it.
func TestWatchersShareTheBytesOfAFrame(t *testing.T) {
	r := presence.NewRoster(presence.ChannelID("sales"), mustCompile(presence.DefaultPolicy()))
	f := r.Open(presence.AudienceTeam, presence.Ref{}, func() string { return "1" })
	one, err := f.JSON()
	require.NoError(t, err)
	other, err := f.JSON()
	require.NoError(t, err)
	require.Same(t, &one[0], &other[0])
}

func FuzzEncodedText(f *testing.F) {
	f.Add("ann", "Zoë <3")
	f.Add("\xe2\x80\xa8", "\x00\"\\\xff")
	f.Fuzz(func(t *testing.T, id, text string) {
		frame := presence.Frame{Kind: presence.FrameSnapshot, Members: []presence.View{{Subject: presence.ID(id), Text: text}}}
		want, err := json.Marshal(plain(&frame))
		require.NoError(t, err)
		require.Equal(t, string(want), string(frame.AppendJSON([]byte("before"))[len("before"):]))
	})
}

func TestEncodingAFrameAllocatesNothing(t *testing.T) {
	f := presence.Frame{Kind: presence.FrameDiff, Channel: sales, Changes: []presence.Change{{Op: presence.OpJoined, Subject: ann, View: &presence.View{Subject: ann, Status: "available", Since: presence.At(time.Now())}}}}
	b := make([]byte, 0, 1024)
	require.Zero(t, testing.AllocsPerRun(100, func() { b = f.AppendJSON(b[:0]) }))
}
