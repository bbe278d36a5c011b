package postgres

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// What the server gave up for the sake of others is done again, a few times, and
// nothing else is.
func TestUntangled(t *testing.T) {
	t.Parallel()
	deadlock := fmt.Errorf("saving: %w", &pgconn.PgError{Code: deadlockDetected})
	other := errors.New("something else")
	for name, c := range map[string]struct {
		answers []error
		want    error
	}{
		"fine":         {[]error{nil}, nil},
		"once":         {[]error{deadlock, nil}, nil},
		"another":      {[]error{deadlock, other}, other},
		"again, again": {[]error{deadlock, deadlock, deadlock, deadlock, deadlock}, deadlock},
	} {
		calls := 0
		err := untangled(func() error {
			calls++
			return c.answers[calls-1]
		})
		require.Equal(t, c.want, err, name)
		require.Len(t, c.answers, calls, name)
	}
}
