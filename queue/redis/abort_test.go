package redis

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"herald/queue"
	"herald/tests/redistest"
)

// refuseOne is a hook that adds a command to the first transaction which the
// server refuses, as it does with the first commands of one that comes while it
// still reads its file: then it does none of them.
type refuseOne struct{ done *atomic.Bool }

func (refuseOne) DialHook(next goredis.DialHook) goredis.DialHook          { return next }
func (refuseOne) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook { return next }

func (h refuseOne) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		if cmds[0].Name() == "multi" && h.done.CompareAndSwap(false, true) {
			cmds = slices.Insert(slices.Clone(cmds), 1, goredis.Cmder(goredis.NewCmd(ctx, "refused")))
		}
		return next(ctx, cmds)
	}
}

// TestTransaction_Refused: calls of which the server did none, because it
// refused another one, are sent again.
func TestTransaction_Refused(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{})
	queues := []queue.Queue{mustCreate(t, h.d, "q0"), mustCreate(t, h.d, "q1")}
	var refused atomic.Bool
	h.d.client.(*goredis.Client).AddHook(refuseOne{&refused})
	for round := 0; !refused.Load(); round++ {
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				if _, err := queues[i%2].Reserve(t.Context(), []byte(strconv.Itoa(i)), 1, 1); err != nil {
					t.Errorf("Reserve = %v", err)
				}
			})
		}
		wg.Wait()
		if round == 1000 {
			t.Fatal("there was no transaction")
		}
	}
}
