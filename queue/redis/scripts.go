package redis

import (
	"crypto/sha1" //nolint:gosec // what Redis names scripts by
	_ "embed"
	"encoding/hex"
)

// script is a Lua script, with the contract at its beginning.
type script struct {
	text  string
	sha   string
	write bool // changes something
}

func newScript(text string, write bool) *script {
	sum := sha1.Sum([]byte(text)) //nolint:gosec // as above
	return &script{text: text, sha: hex.EncodeToString(sum[:]), write: write}
}

var (
	//go:embed scripts/common.lua
	commonText string
	//go:embed scripts/change.lua
	changeText string
	//go:embed scripts/ack.lua
	ackText string
	//go:embed scripts/list.lua
	listText string
	//go:embed scripts/reservations.lua
	reservationsText string
	//go:embed scripts/stats.lua
	statsText string
	//go:embed scripts/wait.lua
	waitText string
	//go:embed scripts/open.lua
	openText string
	//go:embed scripts/create.lua
	createText string
	//go:embed scripts/delete.lua
	deleteText string
	//go:embed scripts/names.lua
	namesText string
	//go:embed scripts/acquire.lua
	acquireText string
	//go:embed scripts/renew.lua
	renewText string
	//go:embed scripts/group.lua
	groupText string
	//go:embed scripts/check.lua
	checkText string
)

// The scripts; never written.
var (
	changeScript       = newScript(commonText+changeText, true)
	ackScript          = newScript(commonText+ackText, true)
	listScript         = newScript(commonText+listText, false)
	reservationsScript = newScript(commonText+reservationsText, false)
	statsScript        = newScript(commonText+statsText, false)
	waitScript         = newScript(commonText+waitText, false)
	openScript         = newScript(commonText+openText, false)
	createScript       = newScript(commonText+createText, true)
	deleteScript       = newScript(commonText+deleteText, true)
	namesScript        = newScript(namesText, true)
	acquireScript      = newScript(acquireText, true)
	renewScript        = newScript(renewText, true)
	groupScript        = newScript(groupText, true)
	checkScript        = newScript(commonText+checkText, false)
)
