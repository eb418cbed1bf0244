package notify

import "errors"

// errBehind: the event was not sent, because an earlier one of its key was not
// delivered.
var errBehind = errors.New("an earlier event of the key was not delivered")

// maxWave is how many events one call of a pusher has on their way at once.
const maxWave = 256

// pushInOrder sends events in waves: those of one key are in one wave each, and
// after a failure of one the later ones of its key are not sent. send sends the
// events with the given indices, which have different keys, and fills in their
// results.
func pushInOrder(events []Event, send func(wave []int, results []Result)) []Result {
	results := make([]Result, len(events))
	left := make([]int, len(events))
	for i := range left {
		left[i] = i
	}
	if len(events) == 1 {
		send(left, results)
		return results
	}
	for len(left) > 0 {
		var wave, later []int
		seen := make(map[string]bool, len(left))
		for _, i := range left {
			if key := events[i].Key; len(wave) < maxWave && !seen[key] {
				wave = append(wave, i)
				seen[key] = true
			} else {
				later = append(later, i)
				seen[key] = true // what comes after it in its key waits with it
			}
		}
		send(wave, results)
		stuck := map[string]bool{}
		for _, i := range wave {
			stuck[events[i].Key] = results[i].Status == Retry
		}
		left = left[:0]
		for _, i := range later {
			if stuck[events[i].Key] {
				results[i] = Result{Retry, errBehind}
			} else {
				left = append(left, i)
			}
		}
	}
	return results
}
