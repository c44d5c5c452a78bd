// The sign of hotlap.

export const Mark = () => (
  <svg class="mark" viewBox="0 0 24 24" aria-hidden="true"><path d="M22 12 3 20.5 7.2 12 3 3.5z" /></svg>
);
