package schedule_test

import (
	"testing"
	"time"

	"github.com/presence-go/presence"
)

func BenchmarkOpenAt(b *testing.B) {
	now := presence.At(time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC))
	for _, text := range []string{"mon-fri 09:00-12:00,13:00-17:00; zone Europe/Berlin", "mon-sun 00:00-24:00; zone Europe/Berlin", "closed"} {
		b.Run(text, func(b *testing.B) {
			s := hours(b, text)
			for b.Loop() {
				s.OpenAt(now)
			}
		})
	}
}
