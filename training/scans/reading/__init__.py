"""What readers of real scans share: streams, meshes, segment groups, masks, labels, cameras and videos."""
