"""Parts of route-plan questions: landmarks, paths, items, the search for them, their check and their pictures."""
