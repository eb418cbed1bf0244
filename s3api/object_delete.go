package s3api

import "context"

// deleteObject answers DeleteObject. To delete what is not there succeeds.
func (s *Server) deleteObject(ctx context.Context, r *request) (*response, error) {
	versionID, err := r.versionID()
	if err != nil {
		return nil, err
	}
	cond, err := deleteConditions(r.http.Header)
	if err != nil {
		return nil, err
	}
	out, err := s.remove(ctx, r, r.key, versionID, cond)
	if err != nil {
		return nil, err
	}
	// With a version id the answer tells of what is gone, else of the marker
	// that is new.
	if out.Info != nil && out.Info.DeleteMarker {
		r.setHeader(hDeleteMarker, "true")
		r.setVersion(out.Info)
	}
	if versionID != "" {
		r.setHeader(hVersionID, versionID)
	}
	return noContent(), nil
}
