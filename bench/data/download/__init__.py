"""Downloads: resumable, checked, unpacked safely."""
