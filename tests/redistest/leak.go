package redistest

import "go.uber.org/goleak"

// Redials has goleak pass over a goroutine of the client library's that looks
// each second whether a server is back, and is asleep when its client is closed.
func Redials() goleak.Option {
	return goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial")
}
