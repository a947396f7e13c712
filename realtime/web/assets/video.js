// The video: WebRTC where both sides can, motion JPEG otherwise; none while nobody looks.

const CONNECT_MS = 8000;

class Video {
  constructor(image, video, onChange) {
    this.image = image;
    this.video = video;
    this.onChange = onChange;
    this.wish = 'auto';
    this.wanted = false;
    this.shown = null; // 'webrtc' | 'mjpeg' | null
    this.canWebrtc = false;
    this.peer = null;
    this.timer = 0;
    image.addEventListener('error', () => {
      if (this.shown === 'mjpeg') setTimeout(() => this.shown === 'mjpeg' && this.showMjpeg(), 2000);
    });
    for (const event of ['resize', 'loadeddata']) video.addEventListener(event, () => this.showWebrtc());
    document.addEventListener('visibilitychange', () => {
      if (document.hidden) this.stop(); else if (this.wanted) this.start();
    });
    addEventListener('pagehide', () => this.stop());
  }

  // Motion JPEG is there at once; WebRTC takes over with its first picture, or never.
  start() {
    this.wanted = true;
    if (document.hidden || this.shown) return;
    this.showMjpeg();
    if (this.canWebrtc && this.wish !== 'mjpeg') this.connect();
  }

  choose(wish) {
    this.wish = wish;
    this.restart();
  }

  restart() {
    this.stop();
    this.start();
  }

  // The run is over, or the server is away: the last picture stays on view.
  end() {
    this.wanted = false;
    if (this.shown === 'webrtc') {
      const canvas = Object.assign(document.createElement('canvas'), { width: this.video.videoWidth, height: this.video.videoHeight });
      canvas.getContext('2d').drawImage(this.video, 0, 0);
      this.image.src = canvas.toDataURL('image/jpeg', 0.9);
      this.image.hidden = false;
      this.video.hidden = true;
    }
    this.shown = null;
    this.hangUp();
  }

  stop() {
    this.hangUp();
    this.image.removeAttribute('src');
    this.shown = null;
  }

  hangUp() {
    clearTimeout(this.timer);
    this.peer?.close();
    this.peer = null;
  }

  showMjpeg() {
    this.shown = 'mjpeg';
    this.image.src = `stream.mjpg?${Date.now()}`;
    this.image.hidden = false;
    this.video.hidden = true;
    this.onChange();
  }

  showWebrtc() {
    if (!this.peer || this.shown !== 'mjpeg' || this.video.videoWidth < 16) return; // 2 x 2: no picture yet
    clearTimeout(this.timer);
    this.shown = 'webrtc';
    this.video.hidden = false;
    this.image.hidden = true;
    this.image.removeAttribute('src');
    this.onChange();
  }

  async connect() {
    const peer = this.peer = new RTCPeerConnection();
    const fail = (why) => {
      if (this.peer !== peer) return;
      console.info('no WebRTC:', why);
      this.hangUp();
      if (this.shown === 'webrtc') this.showMjpeg();
    };
    this.timer = setTimeout(fail, CONNECT_MS, 'no picture in time');
    peer.addTransceiver('video', { direction: 'recvonly' });
    peer.ontrack = (event) => {
      // Show each frame as it comes: a live picture has no use for a jitter buffer.
      try { event.receiver.jitterBufferTarget = 0; } catch { /* an older browser */ }
      this.video.srcObject = new MediaStream([event.track]);
      this.video.play().catch(() => {});
    };
    peer.onconnectionstatechange = () => {
      if (['failed', 'disconnected', 'closed'].includes(peer.connectionState)) fail(peer.connectionState);
    };
    try {
      await peer.setLocalDescription(await peer.createOffer());
      await gathered(peer);
      const answer = await fetch('webrtc', {
        method: 'POST', headers: { 'content-type': 'application/sdp' }, body: peer.localDescription.sdp,
      });
      const said = await answer.text();
      if (!answer.ok) throw new Error(said);
      await peer.setRemoteDescription({ type: 'answer', sdp: said });
    } catch (error) {
      fail(error.message);
    }
  }
}

function gathered(peer) {
  if (peer.iceGatheringState === 'complete') return Promise.resolve();
  return new Promise((done) => {
    setTimeout(done, 1000);
    peer.addEventListener('icegatheringstatechange', () => peer.iceGatheringState === 'complete' && done());
  });
}
