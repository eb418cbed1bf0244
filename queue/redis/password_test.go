package redis

import (
	"log/slog"
	"strings"
	"testing"

	"herald/tests/redistest"
)

// What a server answers while a connection is made is told: the client library
// has it as the error of no command.
func TestOpen_WrongPassword(t *testing.T) {
	r := redistest.Start(t, "--requirepass", "secret")
	_, err := Open(t.Context(), "redis://:mistaken@"+r.Addr, Options{Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "WRONGPASS") || strings.Contains(err.Error(), "mistaken") {
		t.Errorf("Open = %v, want WRONGPASS", err)
	}
}
