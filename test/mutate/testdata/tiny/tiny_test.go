package tiny

import "testing"

func TestClamp(t *testing.T) {
	for n, want := range map[int]int{0: 1, 1: 1, 2: 2, 3: 3, 4: 3} {
		if got := Clamp(n, 1, 3); got != want {
			t.Errorf("%d: got %d, want %d", n, got, want)
		}
	}
}

func TestAllowed(t *testing.T) {
	if Allowed("guest", 17) || !Allowed("guest", 18) || Allowed("stranger", 18) || !Allowed("guest", 19) {
		t.Error("not as documented")
	}
}

func TestSort(t *testing.T) {
	if a, b := Sort(2, 1); a != 1 || b != 2 {
		t.Error(a, b)
	}
	if a, b := Sort(1, 2); a != 1 || b != 2 {
		t.Error(a, b)
	}
}

func TestFee(t *testing.T) {
	if Fee(40) != 10 {
		t.Error(Fee(40))
	}
}

func TestName(t *testing.T) {
	if Name("guest") != "Guest" || Name("friend") != "Friend" || Name("") != "?" {
		t.Error("not as documented")
	}
}

func TestCountdown(t *testing.T) {
	if Countdown(3) != 3 {
		t.Error(Countdown(3))
	}
}
