package phoenix

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

// stage is a room, and a roster whose frames it is brought.
type stage struct {
	room   *room
	roster *presence.Roster
	now    presence.Instant
}

func newStage(t *testing.T) *stage {
	t.Helper()
	policy := presence.DefaultPolicy()
	policy.Views = map[presence.Audience][]string{presence.AudienceTeam: {"text", "devices"}}
	m, err := presence.Compile(policy)
	require.NoError(t, err)
	h := &Handler{rooms: make(map[roomKey]*room)}
	return &stage{room: h.enter(roomKey{topic: "sales"}), roster: presence.NewRoster(presence.ChannelID("sales"), m), now: 1}
}

func (s *stage) snapshot() *presence.Frame {
	return s.roster.Open(presence.AudienceTeam, presence.Ref{}, func() string { return "1" })
}

// put changes a subject and returns the frame of the change.
func (s *stage) put(t *testing.T, id, text string, devices int) *presence.Frame {
	t.Helper()
	s.now++
	frames := s.roster.Put(&presence.Presence{
		Subject: presence.ID(id), Known: true, Status: "available", Class: presence.ClassAvailable, Text: text, Devices: devices,
	}, s.now)
	require.Len(t, frames, 1)
	return frames[0]
}

func (s *stage) turn(t *testing.T, f *presence.Frame) []string {
	t.Helper()
	messages, ok := s.room.turn(f, nil)
	require.True(t, ok)
	list := make([]string, len(messages))
	for i, m := range messages {
		list[i] = string(m)
	}
	return list
}

// A socket that is behind receives the same messages as those before, and no
// more than its own frames.
func TestRoomTellsThoseWhoAreBehindTheSame(t *testing.T) {
	s := newStage(t)
	s.turn(t, s.snapshot())
	var frames []*presence.Frame
	var told [][]string
	for i := range 50 {
		f := s.put(t, fmt.Sprint("agent-", i%3), fmt.Sprint("text ", i), 1)
		frames, told = append(frames, f), append(told, s.turn(t, f))
		require.Contains(t, told[i][0], fmt.Sprint("text ", i))
	}
	for i, f := range frames {
		require.Equal(t, told[i], s.turn(t, f))
	}
}

// A later socket brings the room a snapshot. Sockets that are behind get the
// difference once they have reached that state.
func TestRoomGoesOnFromASnapshot(t *testing.T) {
	s := newStage(t)
	s.turn(t, s.snapshot())
	first, second := s.put(t, "ann", "one", 1), s.put(t, "bob", "two", 1)
	early := s.snapshot()
	third := s.put(t, "ann", "three", 1)
	late := s.snapshot()
	state := s.turn(t, late)
	require.Contains(t, state[0], "three")
	require.Empty(t, s.turn(t, first))
	require.Empty(t, s.turn(t, second))
	diff := s.turn(t, third)
	require.Contains(t, diff[0], "two")
	require.Contains(t, diff[0], "three")
	require.NotContains(t, diff[0], "one")
	require.Equal(t, state, s.turn(t, late), "encoded once")
	old := s.turn(t, early)
	require.Contains(t, old[0], "one")
	require.NotContains(t, old[0], "three", "a snapshot from before is told as it was")
	fourth := s.put(t, "bob", "four", 1)
	require.Contains(t, s.turn(t, fourth)[0], "four")
}

func TestRoomRemembersWithinBounds(t *testing.T) {
	s := newStage(t)
	s.turn(t, s.snapshot())
	first := s.put(t, "ann", "first", 1)
	s.turn(t, first)
	for i := range 600 {
		s.turn(t, s.put(t, "ann", fmt.Sprint(i, strings.Repeat("x", 500)), 1))
		require.LessOrEqual(t, len(s.room.log), logFrames)
	}
	for i := range 40 {
		s.turn(t, s.put(t, "ann", fmt.Sprint(i, strings.Repeat("x", 1<<16)), 1))
		require.LessOrEqual(t, s.room.size, logBytes)
	}
	_, ok := s.room.turn(first, nil)
	require.False(t, ok)
	other := newStage(t)
	other.turn(t, other.snapshot())
	stranger := *first
	stranger.Epoch = "2"
	_, ok = other.room.turn(&stranger, nil)
	require.False(t, ok, "of another stream")
	ahead := *first
	ahead.Seq += 7
	_, ok = other.room.turn(&ahead, nil)
	require.False(t, ok, "with others before it")
}

// Another device adds an entry and leaves the others as they are.
func TestRoomKeepsTheRefsOfOtherDevices(t *testing.T) {
	s := newStage(t)
	s.turn(t, s.snapshot())
	s.turn(t, s.put(t, "ann", "", 1))
	one := s.room.members["ann"]
	s.turn(t, s.put(t, "ann", "", 3))
	three := s.room.members["ann"]
	require.Len(t, three, 3)
	require.Equal(t, one[0].ref, three[0].ref)
	s.turn(t, s.put(t, "ann", "", 2))
	require.Equal(t, three[:2], s.room.members["ann"])
	s.room.h.leave(s.room)
	require.Empty(t, s.room.h.rooms, "a room that nobody uses is forgotten")
}
