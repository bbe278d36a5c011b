// Package tiny has code whose mutants are known.
package tiny

// Kind is a kind of thing.
type Kind string

// Clamp returns n, but at least low and at most high.
func Clamp(n, low, high int) int {
	return max(low, min(n, high))
}

// Allowed reports whether a kind may enter: adults of any kind but one.
func Allowed(k Kind, age int) bool {
	if age < 18 || k == "stranger" {
		return false
	}
	return true
}

// Sort orders two numbers. The comparison of equal ones changes nothing.
func Sort(a, b int) (int, int) {
	if a > b {
		a, b = b, a
	}
	return a, b
}

// Fee is never checked by a test for children.
func Fee(age int) int {
	fee := 10
	if age < 6 {
		fee = 3
	}
	return fee
}

// Name returns the word for a kind.
func Name(k Kind) string {
	switch k {
	case "guest":
		return "Guest"
	case "friend":
		return "Friend"
	}
	return "?"
}

// Countdown never ends if it does not count.
func Countdown(n int) (steps int) {
	for n > 0 {
		n--
		steps++
	}
	return steps
}
