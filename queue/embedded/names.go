package embedded

import (
	"fmt"
	"net/url"
	"strings"
)

// maxEncoded bounds the readable part of a directory's name; longer names are
// cut off (the catalog has them whole).
const maxEncoded = 200

// dirName returns the name of a queue's directory: letters, digits, '-' and
// '_' of the queue's name as they are, all else as %XX, then the queue's
// number.
func dirName(name string, id uint64) string {
	return fmt.Sprintf("%s.%d", escape(name, maxEncoded), id)
}

func escape(name string, limit int) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(name) {
		if b.Len()+3 > limit {
			break
		}
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String()
}

// queueName is the inverse of dirName, for names that were not cut off.
func queueName(dir string) (string, error) {
	i := strings.LastIndexByte(dir, '.')
	if i < 0 {
		return "", fmt.Errorf("%s is no queue's directory", dir)
	}
	return url.PathUnescape(dir[:i])
}
